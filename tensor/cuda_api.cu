// The table of cuda_api.h over CUDA's runtime.

#include <cuda_runtime.h>

#include <cstring>

#include "tensor/cuda_api.h"

namespace hybrid {
namespace {

/// Calls body() with `device` current on this thread.
template <class Body>
int on(int device, const Body& body) {
  const cudaError_t status = cudaSetDevice(device);
  return status != cudaSuccess ? status : body();
}

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t event_of(void* event) { return static_cast<cudaEvent_t>(event); }

int count_devices(int* n) {
  int found = 0;  // cudaGetDeviceCount leaves it alone where there is no driver
  const cudaError_t status = cudaGetDeviceCount(&found);
  if (status == cudaSuccess) *n = found;
  return status;
}

int device_info(int device, CudaDeviceInfo* info) {
  return on(device, [&]() -> int {
    cudaDeviceProp p{};
    size_t n_free = 0, n_total = 0;
    cudaError_t status = cudaGetDeviceProperties(&p, device);
    if (status == cudaSuccess) status = cudaMemGetInfo(&n_free, &n_total);
    if (status != cudaSuccess) return status;
    *info = {{},         n_total,      n_free, p.major, p.minor, p.multiProcessorCount,
             p.pciBusID, p.pciDeviceID};
    static_assert(sizeof(info->name) == sizeof(p.name));
    std::memcpy(info->name, p.name, sizeof(p.name));
    return cudaSuccess;
  });
}

int allocate(int device, uint64_t n_bytes, void** data) {
  return on(device, [&] { return cudaMalloc(data, n_bytes); });
}
int free_memory(int device, void* data) {
  return on(device, [&] { return cudaFree(data); });
}
int allocate_pinned(int device, uint64_t n_bytes, void** data) {
  return on(device, [&] { return cudaHostAlloc(data, n_bytes, cudaHostAllocPortable); });
}
int free_pinned(int device, void* data) {
  return on(device, [&] { return cudaFreeHost(data); });
}

int create_stream(int device, void** stream) {
  return on(device, [&]() -> int {
    cudaStream_t made = nullptr;
    const cudaError_t status = cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking);
    if (status == cudaSuccess) *stream = made;
    return status;
  });
}
int destroy_stream(int device, void* stream) {
  return on(device, [&] { return cudaStreamDestroy(stream_of(stream)); });
}
int create_event(int device, void** event) {
  return on(device, [&]() -> int {
    cudaEvent_t made = nullptr;
    const cudaError_t status = cudaEventCreateWithFlags(&made, cudaEventDisableTiming);
    if (status == cudaSuccess) *event = made;
    return status;
  });
}
int destroy_event(int device, void* event) {
  return on(device, [&] { return cudaEventDestroy(event_of(event)); });
}

template <cudaMemcpyKind kKind>
int copy(int device, void* to, const void* from, uint64_t n_bytes, void* stream) {
  return on(device, [&] { return cudaMemcpyAsync(to, from, n_bytes, kKind, stream_of(stream)); });
}

int record(int device, void* event, void* stream) {
  return on(device, [&] { return cudaEventRecord(event_of(event), stream_of(stream)); });
}
int wait(int device, void* stream, void* event) {
  return on(device, [&] { return cudaStreamWaitEvent(stream_of(stream), event_of(event), 0); });
}
int query_event(int device, void* event) {
  return on(device, [&] { return cudaEventQuery(event_of(event)); });
}
int query_stream(int device, void* stream) {
  return on(device, [&] { return cudaStreamQuery(stream_of(stream)); });
}

constexpr CudaApi kApi{
    .version = kCudaApiVersion,
    .n_bytes = sizeof(CudaApi),
    .not_ready = cudaErrorNotReady,
    .status_name = [](int s) { return cudaGetErrorName(static_cast<cudaError_t>(s)); },
    .status_text = [](int s) { return cudaGetErrorString(static_cast<cudaError_t>(s)); },
    .count_devices = count_devices,
    .device_info = device_info,
    .use = [](int device) { return static_cast<int>(cudaSetDevice(device)); },
    .allocate = allocate,
    .free = free_memory,
    .allocate_pinned = allocate_pinned,
    .free_pinned = free_pinned,
    .create_stream = create_stream,
    .destroy_stream = destroy_stream,
    .create_event = create_event,
    .destroy_event = destroy_event,
    .copy_to_device = copy<cudaMemcpyHostToDevice>,
    .copy_to_host = copy<cudaMemcpyDeviceToHost>,
    .copy_on_device = copy<cudaMemcpyDeviceToDevice>,
    .record = record,
    .wait = wait,
    .query_event = query_event,
    .query_stream = query_stream,
};

}  // namespace
}  // namespace hybrid

extern "C" __attribute__((visibility("default"))) const hybrid::CudaApi* hybrid_cuda_api() {
  return &hybrid::kApi;
}
