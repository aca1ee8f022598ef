# The files of a folder are compiled in a few groups, by their first letters: what they all include is
# read once a group, which spares a third of a build's time. A new file joins a group and leaves the others as
# they are. Names without linkage must differ within a group. For work on a file,
# -DHYBRID_UNITY=OFF compiles each alone.

option(HYBRID_UNITY "Compile the files of a folder in groups" ON)
set(unity_groups a-b c d-f g-l m-o p q-s t-z)

# Groups the sources of a target. Those of a level stay alone.
function(unite target)
  get_target_property(sources ${target} SOURCES)
  foreach(source ${sources})
    get_filename_component(name ${source} NAME)
    if(name MATCHES "_(ref|avx2|avx512_vnni|amx)\\.cpp$")
      set_source_files_properties(${source} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
      continue()
    endif()
    foreach(group ${unity_groups})
      if(name MATCHES "^[${group}]")
        set_source_files_properties(${source} PROPERTIES UNITY_GROUP ${group})
      endif()
    endforeach()
  endforeach()
  if(HYBRID_UNITY AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # A class of a .cpp with members of types without linkage: warned of in what is included alone.
    target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
  endif()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${HYBRID_UNITY} UNITY_BUILD_MODE GROUP)
endfunction()
