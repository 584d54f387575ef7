/* cuda_host.h - what the machine itself says about NVIDIA cards, without their driver's library.
 *
 * For telling "there is no card" from "its driver is missing" and from "this container was not
 * given it".  Reads /proc, /dev and /sys below a root, which tests make up.  Any thread. */
#ifndef BACKEND_CUDA_CUDA_HOST_H
#define BACKEND_CUDA_CUDA_HOST_H

#include <stdbool.h>
#include <stdint.h>

typedef struct cuda_host {
    bool module;        /* the kernel driver is loaded: /proc/driver/nvidia */
    bool nodes;         /* /dev/nvidiactl, or WSL's /dev/dxg */
    bool container;     /* /.dockerenv, /run/.containerenv or Kubernetes' secrets */
    uint32_t pci_count; /* display controllers of vendor 0x10de */
} cuda_host;

/* root NULL: the machine's. */
cuda_host cuda_host_look(const char *root);

#endif
