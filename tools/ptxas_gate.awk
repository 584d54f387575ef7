# ptxas_gate.awk - what ptxas says of every kernel, held against cuda/registers.txt.
#   awk -f tools/ptxas_gate.awk cuda/registers.txt build/cuda/*.log
# Fails when a kernel spills on any architecture, uses more registers than its line allows, or has no
# line.  registers.txt: "KERNEL REGISTERS", the most on any architecture; # begins a comment.
FNR == 1 { file++ }
file == 1 { if ($1 !~ /^#/ && NF >= 2) cap[$1] = $2 + 0; next }
/Compiling entry function/ { split($0, q, "'"); kernel = q[2]; arch = q[4]; next }
/bytes spill stores/ {
    match($0, /[0-9]+ bytes spill stores/); stores = substr($0, RSTART, RLENGTH) + 0
    match($0, /[0-9]+ bytes spill loads/); loads = substr($0, RSTART, RLENGTH) + 0
    if (stores + loads > 0) bad(kernel " on " arch " spills " stores " bytes of stores, " loads " of loads")
    next
}
/Used [0-9]+ registers/ {
    match($0, /Used [0-9]+/); used = substr($0, RSTART + 5, RLENGTH - 5) + 0
    seen[kernel] = 1; if (!(arch in met)) { met[arch] = 1; targets++ }
    if (used > most[kernel]) most[kernel] = used
    if (!(kernel in cap)) { if (!(kernel in told)) bad(kernel " has no line in cuda/registers.txt"); told[kernel] = 1 }
    else if (used > cap[kernel]) bad(kernel " on " arch " uses " used " registers, its line allows " cap[kernel])
}
function bad(text) { print "ptxas: " text; failures++ }
END {
    for (k in seen) kernels++
    for (k in cap) if (!(k in seen)) bad("cuda/registers.txt names " k ", which is no kernel")
    printf "ptxas: %d kernels for %d targets, %d problems\n", kernels, targets, failures
    if (PRINT) for (k in most) print k, most[k]
    exit failures > 0
}
