# The kernels of all layers (*_cuda.cu) for the architectures of HYBRID_CUDA_ARCHS, in one library, and
# the plugin (tensor/cuda_plugin.h) that has them. Code for sm_80 is the floor; what a kernel computes is
# tested without a GPU (tests/cuda_host).

find_program(HYBRID_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda
             PATH_SUFFIXES bin)
if(NOT HYBRID_NVCC)
  message(FATAL_ERROR "HYBRID_CUDA is ON, but there is no nvcc: install the CUDA toolkit (12.8 or later), "
                      "or say where it is with -DHYBRID_NVCC=/path/to/nvcc")
endif()
set(CMAKE_CUDA_COMPILER "${HYBRID_NVCC}")
set(HYBRID_CUDA_ARCHS "80-real;86-real;89-real;90-real;120-real;120-virtual" CACHE STRING
    "GPU architectures, as CMAKE_CUDA_ARCHITECTURES")
set(CMAKE_CUDA_ARCHITECTURES ${HYBRID_CUDA_ARCHS})
enable_language(CUDA)
if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  # CMake 3.25 does not know that nvcc has C++20.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()

file(GLOB cuda_sources CONFIGURE_DEPENDS tensor/*_cuda.cu experts/*_cuda.cu attention/*_cuda.cu)
add_library(cuda_kernels STATIC ${cuda_sources})
target_include_directories(cuda_kernels PUBLIC ${CMAKE_SOURCE_DIR})
set_target_properties(cuda_kernels PROPERTIES POSITION_INDEPENDENT_CODE ON
                      CUDA_VISIBILITY_PRESET hidden)
# -fmad=false: as -ffp-contract=off, a product and a sum are fused where the source says so (fmaf).
target_compile_options(cuda_kernels PRIVATE -fmad=false -Xptxas=-v
  -Xcompiler=-Wall,-Wextra $<$<BOOL:${HYBRID_WERROR}>:-Werror=all-warnings>)

# A kernel that spills registers or takes a stack fails the build.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
set_target_properties(cuda_kernels PROPERTIES CUDA_COMPILER_LAUNCHER
  "${Python3_EXECUTABLE};${CMAKE_SOURCE_DIR}/scripts/check_cuda_spills.py")

# The plugin lies beside the program, and installed in ../lib/hybrid-run of its folder: cuda_plugin_paths()
# looks there. CUDA's runtime is inside; cuBLAS is not, nor linked
# (tensor/cuda_blas.h). The map hides what the libraries inside would show.

# What launches ask of the CPU's side: how large a panel of a type is.
add_library(cuda_plugin_host STATIC base/error.cpp base/utf8.cpp tensor/dtype.cpp tensor/panel.cpp
            tensor/panel_exponent.cpp)
target_include_directories(cuda_plugin_host PRIVATE ${CMAKE_SOURCE_DIR})
target_link_libraries(cuda_plugin_host PRIVATE fmt::fmt-header-only hybrid_warnings)
set_target_properties(cuda_plugin_host PROPERTIES POSITION_INDEPENDENT_CODE ON
                      CXX_VISIBILITY_PRESET hidden)

set(cuda_plugin_map ${CMAKE_SOURCE_DIR}/cmake/cuda_plugin.map)
add_library(hybrid_cuda SHARED tensor/cuda_api.cu tensor/cuda_blas.cu tensor/cuda_ops.cu
            experts/cuda_ops.cu attention/cuda_ops.cu)
target_link_libraries(hybrid_cuda PRIVATE cuda_kernels cuda_plugin_host)
target_compile_options(hybrid_cuda PRIVATE
  -Xcompiler=-Wall,-Wextra $<$<BOOL:${HYBRID_WERROR}>:-Werror=all-warnings>)
target_link_options(hybrid_cuda PRIVATE -Wl,--version-script=${cuda_plugin_map} -Wl,--no-undefined)
set_target_properties(hybrid_cuda PROPERTIES
  CUDA_RUNTIME_LIBRARY Static CUDA_VISIBILITY_PRESET hidden LINK_DEPENDS ${cuda_plugin_map}
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
include(GNUInstallDirs)
install(TARGETS hybrid_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_BINDIR}/../lib/hybrid-run
        COMPONENT cuda)
