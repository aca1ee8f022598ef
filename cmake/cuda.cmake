# The kernels of all layers (*_cuda.cu) for the architectures of HYBRID_CUDA_ARCHS, in one library. Code
# for sm_80 is the floor; what a kernel computes is tested without a GPU (tests/cuda_host).

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
