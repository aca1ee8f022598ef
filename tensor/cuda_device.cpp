#include "tensor/cuda_device.h"

#include <utility>

#include "base/error.h"
#include "base/units.h"
#include "numa/backoff.h"

namespace hybrid {

struct CudaDevice::Impl {
  const CudaApi& api;
  const int index;
  CudaDeviceInfo info{};
  std::string error = {};  // of the first failure; empty: none
  bool is_lost = false;    // it did not answer in time

  std::string title() const { return fmt::format("CUDA{} ({})", index, printable(info.name)); }

  std::string text(const std::string& call, int status) const {
    return fmt::format("{}: {} failed: {} ({})", title(), call, api.status_text(status),
                       api.status_name(status));
  }

  /// Keeps the first failure of a call that queues: waits tell it.
  void keep(const char* call, uint64_t n_bytes, int status) {
    if (status == 0 || !error.empty()) return;
    error =
        text(n_bytes == 0 ? call : fmt::format("{} of {}", call, format_bytes(n_bytes)), status);
  }

  /// Polls query() until it has an answer other than "not ready".
  template <class Query>
  void wait(std::chrono::milliseconds limit, const char* what, const Query& query) {
    using Clock = Backoff::Clock;
    if (!error.empty()) throw Error(error);
    Backoff backoff({std::chrono::microseconds(50), std::chrono::microseconds(500)});
    const Clock::time_point end = Clock::now() + limit;
    int status = query();
    while (status == api.not_ready && Clock::now() < end) {
      backoff.step();
      status = query();
    }
    if (status == api.not_ready) {
      is_lost = true;
      error = fmt::format("{}: no answer for {} s while the host waited for {}", title(),
                          std::chrono::duration<double>(limit).count(), what);
    } else {
      keep(what, 0, status);
    }
    if (!error.empty()) throw Error(error);
  }
};

namespace {

using DeviceImpl = CudaDevice::Impl;

class Event : public DeviceEvent {
 public:
  explicit Event(std::shared_ptr<DeviceImpl> device) : device_(std::move(device)) {
    const int status = device_->api.create_event(device_->index, &event_);
    if (status != 0) throw Error(device_->text("cudaEventCreate", status));
  }
  ~Event() override { device_->api.destroy_event(device_->index, event_); }

  void wait(std::chrono::milliseconds limit) override {
    device_->wait(limit, "an event",
                  [&] { return device_->api.query_event(device_->index, event_); });
  }

  void* handle() const { return event_; }
  const DeviceImpl* device() const { return device_.get(); }

 private:
  const std::shared_ptr<DeviceImpl> device_;
  void* event_ = nullptr;
};

class Stream : public CudaQueue {
 public:
  explicit Stream(std::shared_ptr<DeviceImpl> device) : device_(std::move(device)) {
    const int status = device_->api.create_stream(device_->index, &stream_);
    if (status != 0) throw Error(device_->text("cudaStreamCreate", status));
  }
  ~Stream() override {
    try {
      synchronize(std::chrono::seconds(10));
    } catch (const Error&) {
      // Whoever waited for the work was told.
    }
    device_->api.destroy_stream(device_->index, stream_);
  }

  void copy_to_device(std::byte* device, const std::byte* host, uint64_t n_bytes) override {
    copy(device_->api.copy_to_device, device, host, n_bytes, "a copy to the device");
  }
  void copy_to_host(std::byte* host, const std::byte* device, uint64_t n_bytes) override {
    copy(device_->api.copy_to_host, host, device, n_bytes, "a copy to the host");
  }
  void copy_on_device(std::byte* to, const std::byte* from, uint64_t n_bytes) override {
    copy(device_->api.copy_on_device, to, from, n_bytes, "a copy on the device");
  }

  void record(DeviceEvent& event) override {
    void* const handle = handle_of(event);
    if (!device_->error.empty()) return;
    device_->keep("cudaEventRecord", 0, device_->api.record(device_->index, handle, stream_));
  }
  void wait(const DeviceEvent& event) override {
    void* const handle = handle_of(event);
    if (!device_->error.empty()) return;
    device_->keep("cudaStreamWaitEvent", 0, device_->api.wait(device_->index, stream_, handle));
  }

  void synchronize(std::chrono::milliseconds limit) override {
    device_->wait(limit, "a queue",
                  [&] { return device_->api.query_stream(device_->index, stream_); });
  }

  CudaStream handle() const override { return static_cast<CudaStream>(stream_); }

 private:
  bool begin_launch() override {
    if (!device_->error.empty()) return false;
    device_->keep("cudaSetDevice", 0, device_->api.use(device_->index));
    return device_->error.empty();
  }
  void end_launch(const char* name, CudaStatus status) override { device_->keep(name, 0, status); }

  template <class Copy>
  void copy(Copy call, std::byte* to, const std::byte* from, uint64_t n_bytes, const char* what) {
    if (n_bytes == 0 || !device_->error.empty()) return;
    device_->keep(what, n_bytes, call(device_->index, to, from, n_bytes, stream_));
  }

  void* handle_of(const DeviceEvent& event) const {
    const auto* own = dynamic_cast<const Event*>(&event);
    HYBRID_CHECK(own != nullptr && own->device() == device_.get());
    return own->handle();
  }

  const std::shared_ptr<DeviceImpl> device_;
  void* stream_ = nullptr;
};

}  // namespace

CudaDevice::CudaDevice(const CudaApi& api, int index, uint64_t capacity_bytes)
    : Device(capacity_bytes), impl_(std::make_shared<Impl>(Impl{api, index})) {
  std::string reason;
  const int n = count_cuda_devices(api, reason);
  if (n == 0) fail("there is no CUDA{}: {}", index, reason);
  if (index < 0 || index >= n)
    fail("there is no CUDA{}: GPUs here are CUDA0 to CUDA{}", index, n - 1);
  const int status = api.device_info(index, &impl_->info);
  if (status != 0) {
    fail("CUDA{}: cannot be asked for its properties: {} ({})", index, api.status_text(status),
         api.status_name(status));
  }
}

std::string CudaDevice::name() const { return fmt::format("CUDA{}", impl_->index); }
std::string CudaDevice::title() const { return impl_->title(); }
const CudaDeviceInfo& CudaDevice::info() const { return impl_->info; }

std::unique_ptr<DeviceStream> CudaDevice::make_stream() { return std::make_unique<Stream>(impl_); }
std::unique_ptr<DeviceEvent> CudaDevice::make_event() { return std::make_unique<Event>(impl_); }

std::byte* CudaDevice::take(DeviceMemory::Where where, uint64_t n_bytes, const std::string& what) {
  const bool on_device = where == DeviceMemory::Where::device;
  void* data = nullptr;
  const int status =
      (on_device ? impl_->api.allocate : impl_->api.allocate_pinned)(impl_->index, n_bytes, &data);
  if (status == 0) return static_cast<std::byte*>(data);
  const char* call = on_device ? "cudaMalloc" : "cudaHostAlloc";
  CudaDeviceInfo now{};
  std::string free;
  if (on_device && impl_->api.device_info(impl_->index, &now) == 0) {
    free = fmt::format("; {} of {} are free on it", format_bytes(now.free_bytes),
                       format_bytes(now.total_bytes));
  }
  throw Error(
      impl_->text(fmt::format("{} of {} for {}", call, format_bytes(n_bytes), what), status) +
      free);
}

void CudaDevice::give_back(DeviceMemory::Where where, std::byte* data) {
  if (impl_->is_lost) return;  // it would wait for the device, and nobody would learn why
  const bool on_device = where == DeviceMemory::Where::device;
  const int status = (on_device ? impl_->api.free : impl_->api.free_pinned)(impl_->index, data);
  impl_->keep(on_device ? "cudaFree" : "cudaFreeHost", 0, status);
}

int count_cuda_devices(const CudaApi& api, std::string& reason) {
  int n = 0;
  const int status = api.count_devices(&n);
  if (status != 0) {
    reason = fmt::format("{} ({})", api.status_text(status), api.status_name(status));
    return 0;
  }
  if (n <= 0) reason = "the driver finds no GPU";
  return n > 0 ? n : 0;
}

}  // namespace hybrid
