# cmake -DNM=nm -DOBJECT=table.o -DSYMBOL=kernels_v4 -P check_symbols.cmake
execute_process(COMMAND ${NM} --defined-only -g -C ${OBJECT} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "\n$" "" symbols "${symbols}")
string(REPLACE "\n" ";" lines "${symbols}")
list(LENGTH lines count)
if(NOT count EQUAL 1 OR NOT symbols MATCHES " [DRB] fastnn::${SYMBOL}$")
  message(FATAL_ERROR "expected one symbol, fastnn::${SYMBOL}, got\n${symbols}")
endif()
