# Instruction set levels: a file op_<level>.cpp, and no other, is compiled for that level. The program
# chooses at run time (tensor/simd_level.h); scripts/check_isa.py proves that nothing wider leaked.

set(isa_flags_avx2 -mavx2 -mfma -mf16c)
set(isa_flags_avx512_vnni ${isa_flags_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
    -mprefer-vector-width=512)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # gcc 12 warns of its own AVX-512 headers (its bug 105593).
  list(APPEND isa_flags_avx512_vnni -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
set(isa_flags_amx ${isa_flags_avx512_vnni} -mavx512fp16 -mavx512bf16 -mamx-tile -mamx-bf16 -mamx-int8)

# Sanitizer builds leave out the kernels on panels: what the sanitizers make of their unrolled vector
# code takes a compiler minutes and gigabytes a file. Their callers, and all other kernels, are in.
set(no_sanitizer_files "panel_(int8|int16|bf16)_[a-z]+_(avx2|avx512_vnni|amx)\\.cpp$")
set(HYBRID_PANEL_OBJECTS "" CACHE PATH
    "A build folder without sanitizers whose objects of these kernels a sanitizer build links")

# Sets the flags of the files of a list by their names; on other processors takes them out of it.
function(set_isa_flags list_name)
  set(sources ${${list_name}})
  foreach(level avx2 avx512_vnni amx)
    set(of_level ${sources})
    list(FILTER of_level INCLUDE REGEX "_${level}\\.cpp$")
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
      set_source_files_properties(${of_level} PROPERTIES COMPILE_OPTIONS "${isa_flags_${level}}")
      if(HYBRID_SANITIZE)
        list(FILTER of_level INCLUDE REGEX "${no_sanitizer_files}")
        set_source_files_properties(${of_level} PROPERTIES
          COMPILE_OPTIONS "${isa_flags_${level}};-fno-sanitize=all;-O2;-g0")
        if(HYBRID_PANEL_OBJECTS AND of_level)
          list(REMOVE_ITEM sources ${of_level})
          foreach(source ${of_level})
            file(RELATIVE_PATH name ${CMAKE_SOURCE_DIR} ${source})
            list(APPEND sources ${HYBRID_PANEL_OBJECTS}/CMakeFiles/tensor.dir/${name}.o)
          endforeach()
        endif()
      endif()
    elseif(of_level)
      list(REMOVE_ITEM sources ${of_level})
    endif()
  endforeach()
  set(${list_name} ${sources} PARENT_SCOPE)
endfunction()
