/* app.h - composition root: the only room that knows every other room. */
#ifndef APP_APP_H
#define APP_APP_H

/* Run the program; returns the process exit status: 0 success, 1 the operation failed,
 * 2 usage. */
int app_run(int argc, char **argv);

#endif
