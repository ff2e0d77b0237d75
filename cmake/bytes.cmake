# redmoon_bytes(out path-or-text FILE|TEXT): its bytes as the body of a C array, 24 to a line, NUL-ended.
function(redmoon_bytes out what)
  string(HEX "${what}" hex)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(REPEAT "....." 24 line)
  string(REGEX REPLACE "(${line})" "\\1\n  " bytes "${bytes}")
  set(${out} "  ${bytes}0" PARENT_SCOPE)
endfunction()
