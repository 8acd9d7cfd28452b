# Draws what `tests/figures growth` has measured: gnuplot -c growth.gp TABLE SVG.
# The columns of the table: dispatches stored, file (MiB), start (ms), memory (MiB), poll
# that changes nothing, poll that changes 1 %, webhook, its 99th percentile (ms).

set terminal svg size 900,500 font "sans-serif,13" background "white"
set output ARG2
set multiplot layout 1,2
set logscale xy
set xrange [800:1300000]
set format x "10^{%L}"
set xlabel "dispatches stored that are over"
set key below left
set grid

set title "What is asked: milliseconds"
set yrange [0.1:1000]
plot ARG1 using 1:5 with linespoints title "poll, nothing changed", \
     ARG1 using 1:6 with linespoints title "poll, 1 % changed", \
     ARG1 using 1:7 with linespoints title "webhook, median", \
     ARG1 using 1:8 with linespoints title "webhook, 99th percentile"

set title "What grows with it"
set yrange [1:10000]
plot ARG1 using 1:3 with linespoints title "start, ms", \
     ARG1 using 1:4 with linespoints title "memory, MiB", \
     ARG1 using 1:2 with linespoints title "file, MiB", \
     x / 1000 with lines dashtype 2 title "proportional"
unset multiplot
