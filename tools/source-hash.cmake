# cmake -DOUT=HEADER -DROOT=FOLDER "-DFILES=a;b;..." -P source-hash.cmake: a header with the hash of the files' names and bytes,
# by which the translation cache knows who made an object.
set(all "")
list(SORT FILES)
foreach(file ${FILES})
  file(SHA256 ${ROOT}/${file} hash)
  string(APPEND all "${file} ${hash}\n")
endforeach()
string(SHA256 hash "${all}")
file(WRITE ${OUT} "#define TRANSLATOR_SOURCES \"${hash}\"\n")
