#pragma once
// What the program asks of CUDA's runtime: a table of functions that the CUDA plugin fills
// (cuda_plugin.h), so that the program itself links nothing of CUDA and starts where there is no
// driver.

#include <cstddef>
#include <cstdint>

namespace hybrid {

/// Of this table; a plugin of another version is refused.
inline constexpr uint32_t kCudaApiVersion = 2;

struct CudaDeviceInfo {
  char name[256];  // as the driver says, ends with a zero
  uint64_t total_bytes;
  uint64_t free_bytes;   // at the time of the call
  int32_t major, minor;  // compute capability
  int32_t n_multiprocessors;
  int32_t pci_bus, pci_device;
};

/// Functions return a cudaError_t, 0 for success; what they give is written only then. `device`
/// counts from 0. Streams and events are cudaStream_t and cudaEvent_t.
struct CudaApi {
  uint32_t version;
  uint32_t n_bytes;   // of this struct
  int32_t not_ready;  // the status of a query whose work is not done yet

  const char* (*status_name)(int status);  // "cudaErrorMemoryAllocation"
  const char* (*status_text)(int status);  // "out of memory"

  int (*count_devices)(int* n);
  int (*device_info)(int device, CudaDeviceInfo* info);
  int (*use)(int device);  // for this thread's launches, whose stream must be that device's

  int (*allocate)(int device, uint64_t n_bytes, void** data);
  int (*free)(int device, void* data);
  int (*allocate_pinned)(int device, uint64_t n_bytes, void** data);
  int (*free_pinned)(int device, void* data);

  int (*create_stream)(int device, void** stream);
  int (*destroy_stream)(int device, void* stream);
  int (*create_event)(int device, void** event);  // without times
  int (*destroy_event)(int device, void* event);

  int (*copy_to_device)(int device, void* to, const void* from, uint64_t n_bytes, void* stream);
  int (*copy_to_host)(int device, void* to, const void* from, uint64_t n_bytes, void* stream);
  int (*copy_on_device)(int device, void* to, const void* from, uint64_t n_bytes, void* stream);

  int (*record)(int device, void* event, void* stream);
  int (*wait)(int device, void* stream, void* event);
  int (*query_event)(int device, void* event);
  int (*query_stream)(int device, void* stream);
};

/// The plugin's function, by this name, that gives the table, valid as long as it is open.
inline constexpr const char* kCudaApiSymbol = "hybrid_cuda_api";
using CudaApiFunction = const CudaApi* (*)();

}  // namespace hybrid
