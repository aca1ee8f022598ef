#include "tests/cuda_models/played_gpus.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <random>
#include <tuple>
#include <vector>

#include "tests/simt/engine.h"
#include "tests/simt/recorder.h"
#include "tests/support/reference_blas.h"

namespace hybrid::test {
namespace {

// As CUDA's.
constexpr int kInvalidValue = 1, kOutOfMemory = 2, kInvalidHandle = 400, kNotReady = 600,
              kLaunchFailure = 719;

struct Event {
  uint64_t n_recorded = 0, n_happened = 0;
};

/// Does a piece of work, or says that it has to wait.
using Work = std::function<bool()>;

struct Stream {
  int device;
  std::deque<Work> work = {};
};

struct Allocation {
  uint64_t n_bytes;
  int device;  // -1: pinned memory of the host
  void* memory;
};

/// The map's allocation that holds all of [data, data + n_bytes); null where there is none.
const Allocation* find(const std::map<std::byte*, Allocation>& all, const void* data,
                       uint64_t n_bytes) {
  const auto* begin = static_cast<const std::byte*>(data);
  auto at = all.upper_bound(const_cast<std::byte*>(begin));
  if (at == all.begin()) return nullptr;
  --at;
  return begin + n_bytes <= at->first + at->second.n_bytes ? &at->second : nullptr;
}

/// Calls body(begin, n_bytes) for each column of a batch's column-major matrices.
template <class T, class Body>
void for_columns(T* data, int64_t n_rows, int64_t n_columns, int32_t ld, int64_t stride,
                 int32_t n_batch, const Body& body) {
  for (int64_t i = 0; i < n_batch; ++i) {
    for (int64_t column = 0; column < n_columns; ++column) {
      body(data + i * stride + blas_at(0, column, ld), n_rows * sizeof(T));
    }
  }
}

}  // namespace

/// cublasHandle_t
struct PlayedBlas {
  CudaStream stream;
};

struct PlayedGpus::Impl {
  explicit Impl(const PlayedOptions& o) : options(o), random(o.seed), used(o.n_gpus) {}

  PlayedOptions options;
  std::mt19937 random;
  std::vector<uint64_t> used;
  std::map<std::byte*, Allocation> allocations;
  std::vector<std::unique_ptr<Stream>> streams;
  std::vector<std::unique_ptr<Event>> events;
  std::vector<std::unique_ptr<PlayedBlas>> blas;
  int current = 0;
  uint64_t n_launches = 0, n_blas_products = 0;
  uint64_t refused = UINT64_MAX, failing = UINT64_MAX;
  bool hangs = false;
  int status = 0;     // of what failed when it ran: of all calls after it
  std::string found;  // what is wrong, first

  int report(const std::string& what) {
    if (found.empty()) found = what;
    return status = kLaunchFailure;
  }

  int allocate(int device, uint64_t n_bytes, void** data) {
    if (device >= 0 && used[device] + n_bytes > options.memory_bytes) return kOutOfMemory;
    constexpr size_t kGuard = simt::recorder::kGuardBytes;
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, kGuard + n_bytes + kGuard) != 0) return kOutOfMemory;
    auto* const begin = static_cast<std::byte*>(memory) + kGuard;
    // What nobody wrote is no number. Pinned memory is large, and the host's.
    if (device >= 0) std::memset(begin, 0xff, n_bytes);
    simt::recorder::add_memory(begin, n_bytes);
    allocations[begin] = {n_bytes, device, memory};
    if (device >= 0) used[device] += n_bytes;
    *data = begin;
    return 0;
  }

  int give_back(int device, void* data) {
    const auto at = allocations.find(static_cast<std::byte*>(data));
    if (at == allocations.end() || at->second.device != device) {
      return report("memory is given back that was not taken");
    }
    if (hangs) return report("memory is given back by a GPU that hangs: that would never return");
    // It waits, which nobody should need, unless a launch was refused and nobody waits any more.
    const auto is_idle = [&] {
      return std::all_of(streams.begin(), streams.end(),
                         [](const auto& stream) { return stream->work.empty(); });
    };
    if (!is_idle() && status == 0 && n_launches <= refused) {
      report("memory is given back while work is queued");
    }
    run_until(is_idle);
    if (device >= 0) used[device] -= at->second.n_bytes;
    simt::recorder::remove_memory(at->first);
    std::free(at->second.memory);
    allocations.erase(at);
    return 0;
  }

  int queue(void* stream, Work work) {
    if (status != 0) return status;
    static_cast<Stream*>(stream)->work.push_back(std::move(work));
    return 0;
  }

  int copy(int device, void* to, const void* from, uint64_t n, void* stream, bool to_device,
           bool from_device) {
    if (static_cast<Stream*>(stream)->device != device) return kInvalidHandle;
    for (const auto& [data, is_device] : {std::pair<const void*, bool>{to, to_device},
                                          std::pair<const void*, bool>{from, from_device}}) {
      const Allocation* const allocation = find(allocations, data, n);
      if (allocation == nullptr || allocation->device != (is_device ? device : -1)) {
        report("a copy goes beyond an allocation, or to the host's memory that is not pinned");
        return kInvalidValue;
      }
    }
    return queue(stream, [=, this] {
      if (from_device && !simt::recorder::is_written(from, n)) {
        report(fmt::format("a copy of {} bytes reads what nobody wrote", n));
      }
      std::memcpy(to, from, n);
      simt::recorder::host_wrote(to, n);
      return true;
    });
  }

  template <class Launch>
  CudaStatus launch(CudaStream stream, const Launch& run) {
    const uint64_t index = n_launches++;
    if (status != 0) return status;
    if (reinterpret_cast<Stream*>(stream)->device != current) return kInvalidHandle;
    if (index == refused) return kLaunchFailure;
    return queue(stream, [=, this] {
      if (index == failing) {
        status = kLaunchFailure;
        return true;
      }
      try {
        if (const CudaStatus launched = run(); launched != 0) {
          report(fmt::format("launch {} is refused with {}", index, launched));
        }
      } catch (const std::exception& error) {
        report(fmt::format("launch {}: {}", index, error.what()));
      }
      return true;
    });
  }

  CudaStatus open_blas(CudaStream stream, void* workspace, uint64_t n_bytes, CudaBlas** to) {
    const int device = reinterpret_cast<Stream*>(stream)->device;
    const Allocation* const of = find(allocations, workspace, n_bytes);
    if (device != current || of == nullptr || of->device != device ||
        reinterpret_cast<uintptr_t>(workspace) % 256 != 0) {
      return report("cuBLAS is opened for another GPU, or with memory that is none of its");
    }
    blas.push_back(std::make_unique<PlayedBlas>(PlayedBlas{stream}));
    *to = reinterpret_cast<CudaBlas*>(blas.back().get());
    return 0;
  }

  CudaStatus multiply(CudaBlas* handle, const BlasGemm& g) {
    ++n_blas_products;
    const CudaStream stream = reinterpret_cast<PlayedBlas*>(handle)->stream;
    const int device = reinterpret_cast<Stream*>(stream)->device;
    return launch(stream, [=, this]() -> CudaStatus {
      bool is_ours = true, is_written = true;
      const auto check = [&](const void* data, uint64_t n_bytes, bool is_read) {
        const Allocation* const of = find(allocations, data, n_bytes);
        is_ours &= of != nullptr && of->device == device;
        if (is_ours && is_read) is_written &= simt::recorder::is_written(data, n_bytes);
      };
      const auto read = [&](const void* data, uint64_t n_bytes) { check(data, n_bytes, true); };
      for_columns(g.a, g.transposes_a ? g.k : g.m, g.transposes_a ? g.m : g.k, g.lda, g.stride_a,
                  g.n_batch, read);
      for_columns(g.b, g.transposes_b ? g.n : g.k, g.transposes_b ? g.k : g.n, g.ldb, g.stride_b,
                  g.n_batch, read);
      for_columns(g.c, g.m, g.n, g.ldc, g.stride_c, g.n_batch,
                  [&](void* data, uint64_t n_bytes) { check(data, n_bytes, g.beta != 0); });
      if (!is_ours) return report("a product of cuBLAS goes beyond an allocation");
      if (!is_written) return report("a product of cuBLAS reads what nobody wrote");
      reference_blas(g);
      for_columns(g.c, g.m, g.n, g.ldc, g.stride_c, g.n_batch, simt::recorder::host_wrote);
      return 0;
    });
  }

  /// Lets queues run, in any order that events allow, until done() or nothing moves.
  template <class Done>
  int run_until(const Done& done) {
    if (hangs) return kNotReady;
    while (status == 0 && !done()) {
      std::vector<Stream*> ready;
      for (const auto& stream : streams) {
        if (!stream->work.empty()) ready.push_back(stream.get());
      }
      std::shuffle(ready.begin(), ready.end(), random);
      bool moved = false;
      for (Stream* stream : ready) {
        if (!stream->work.front()()) continue;
        stream->work.pop_front();
        moved = true;
        break;
      }
      if (!moved) return report("queues wait for each other");
    }
    return status;
  }

  template <class T>
  static int destroy(std::vector<std::unique_ptr<T>>& of, void* handle) {
    return std::erase_if(
               of, [&](const auto& each) { return static_cast<void*>(each.get()) == handle; }) == 1
               ? 0
               : kInvalidHandle;
  }
};

namespace {

PlayedGpus::Impl* gpus = nullptr;  // the functions are plain ones

/// A launch function that queues its call.
template <auto kLaunch, class Type = decltype(kLaunch)>
struct Queued;
template <auto kLaunch, class... Args>
struct Queued<kLaunch, CudaStatus (*)(Args...)> {
  static CudaStatus call(Args... args) {
    const auto stored = std::make_tuple(std::decay_t<Args>(args)...);
    const CudaStream stream = std::get<sizeof...(Args) - 1>(stored);
    return gpus->launch(stream, [stored] { return std::apply(kLaunch, stored); });
  }
};
template <auto kLaunch>
constexpr auto queued = &Queued<kLaunch>::call;

const CudaApi kApi{
    .version = kCudaApiVersion,
    .n_bytes = sizeof(CudaApi),
    .not_ready = kNotReady,
    .status_name = [](int s) -> const char* {
      return s == kOutOfMemory     ? "cudaErrorMemoryAllocation"
             : s == kLaunchFailure ? "cudaErrorLaunchFailure"
                                   : "cudaErrorUnknown";
    },
    .status_text = [](int s) -> const char* {
      return s == kOutOfMemory     ? "out of memory"
             : s == kLaunchFailure ? "unspecified launch failure"
                                   : "unknown error";
    },
    .count_devices = [](int* n) { return *n = gpus->options.n_gpus, 0; },
    .device_info =
        [](int device, CudaDeviceInfo* info) {
          const PlayedOptions& o = gpus->options;
          *info = {"played",
                   o.memory_bytes,
                   o.memory_bytes - gpus->used[device],
                   o.major,
                   0,
                   o.n_multiprocessors,
                   device,
                   0};
          return 0;
        },
    .use = [](int device) { return gpus->current = device, 0; },
    .allocate = [](int device, uint64_t n, void** data) { return gpus->allocate(device, n, data); },
    .free = [](int device, void* data) { return gpus->give_back(device, data); },
    .allocate_pinned = [](int, uint64_t n, void** data) { return gpus->allocate(-1, n, data); },
    .free_pinned = [](int, void* data) { return gpus->give_back(-1, data); },
    .create_stream =
        [](int device, void** stream) {
          gpus->streams.push_back(std::make_unique<Stream>(Stream{device}));
          *stream = gpus->streams.back().get();
          return 0;
        },
    .destroy_stream = [](int, void* stream) { return gpus->destroy(gpus->streams, stream); },
    .create_event =
        [](int, void** event) {
          gpus->events.push_back(std::make_unique<Event>());
          *event = gpus->events.back().get();
          return 0;
        },
    .destroy_event = [](int, void* event) { return gpus->destroy(gpus->events, event); },
    .copy_to_device =
        [](int device, void* to, const void* from, uint64_t n, void* stream) {
          return gpus->copy(device, to, from, n, stream, true, false);
        },
    .copy_to_host =
        [](int device, void* to, const void* from, uint64_t n, void* stream) {
          return gpus->copy(device, to, from, n, stream, false, true);
        },
    .copy_on_device =
        [](int device, void* to, const void* from, uint64_t n, void* stream) {
          return gpus->copy(device, to, from, n, stream, true, true);
        },
    .record =
        [](int, void* event, void* stream) {
          auto* const e = static_cast<Event*>(event);
          return gpus->queue(stream, [e, n = ++e->n_recorded] {
            e->n_happened = std::max(e->n_happened, n);
            return true;
          });
        },
    .wait =
        [](int, void* stream, void* event) {
          const auto* const e = static_cast<Event*>(event);
          return gpus->queue(stream, [e, n = e->n_recorded] { return e->n_happened >= n; });
        },
    .query_event =
        [](int, void* event) {
          const auto* const e = static_cast<Event*>(event);
          return gpus->run_until([e] { return e->n_happened >= e->n_recorded; });
        },
    .query_stream =
        [](int, void* stream) {
          const auto* const s = static_cast<Stream*>(stream);
          return gpus->run_until([s] { return s->work.empty(); });
        },
};

const TensorCudaOps kTensor{
    .version = TensorCudaOps::kVersion,
    .n_bytes = sizeof(TensorCudaOps),
    .rms_norm = queued<rms_norm_cuda>,
    .fill_rope_table = queued<fill_rope_table_cuda>,
    .rotate_pairs = queued<rotate_pairs_cuda>,
    .silu_mul = queued<silu_mul_cuda>,
    .add_rows = queued<add_rows_cuda>,
    .to_bf16 = queued<to_bf16_cuda>,
    .quantize_rows = queued<quantize_rows_cuda>,
    .silu_mul_quantize = queued<silu_mul_quantize_cuda>,
    .panel_rows = queued<panel_rows_cuda>,
    .panel_gemv = queued<panel_gemv_cuda>,
    .panel_gemm = queued<panel_gemm_cuda>,
};
const ExpertsCudaOps kExperts{
    .version = ExpertsCudaOps::kVersion,
    .n_bytes = sizeof(ExpertsCudaOps),
    .route_tokens = queued<route_tokens_cuda>,
    .sort_by_expert = queued<sort_by_expert_cuda>,
    .moe_ffn = queued<moe_ffn_cuda>,
    .combine_slots = queued<combine_slots_cuda>,
    .gather_slots = queued<gather_slots_cuda>,
};
const AttentionCudaOps kAttention{
    .version = AttentionCudaOps::kVersion,
    .n_bytes = sizeof(AttentionCudaOps),
    .store_cache_rows = queued<store_cache_rows_cuda>,
    .load_cache_rows = queued<load_cache_rows_cuda>,
    .mla_absorbed = queued<mla_absorbed_cuda>,
    .mla_prefill = queued<mla_prefill_cuda>,
    .score_softmax = queued<score_softmax_cuda>,
};
const BlasCudaOps kBlas{
    .version = BlasCudaOps::kVersion,
    .n_bytes = sizeof(BlasCudaOps),
    .why_missing = []() -> const char* {
      const std::string& reason = gpus->options.missing_blas;
      return reason.empty() ? nullptr : reason.c_str();
    },
    .open = [](CudaStream stream, void* workspace, uint64_t n_bytes,
               CudaBlas** blas) { return gpus->open_blas(stream, workspace, n_bytes, blas); },
    .close = [](CudaBlas* blas) { gpus->destroy(gpus->blas, blas); },
    .gemm = [](CudaBlas* blas, const BlasGemm& args) { return gpus->multiply(blas, args); },
};
const CudaTables kTables{kApi, kTensor, kExperts, kAttention, kBlas};

}  // namespace

PlayedGpus::PlayedGpus(const PlayedOptions& options) : impl_(std::make_unique<Impl>(options)) {
  simt::options = {};
  simt::options.seed = options.seed;
  gpus = impl_.get();
  set_cuda_tables(&kTables);
}

PlayedGpus::~PlayedGpus() {
  CHECK(impl_->found == "");
  // Of one that hangs, memory is left to the end of the process.
  CHECK(impl_->allocations.empty() == !impl_->hangs);
  for (const auto& [begin, allocation] : impl_->allocations) {
    simt::recorder::remove_memory(begin);
    std::free(allocation.memory);
  }
  CHECK(impl_->streams.empty());
  CHECK(impl_->events.empty());
  CHECK(impl_->blas.empty());
  set_cuda_tables(nullptr);
  gpus = nullptr;
}

uint64_t PlayedGpus::n_launches() const { return impl_->n_launches; }
uint64_t PlayedGpus::n_blas_products() const { return impl_->n_blas_products; }
void PlayedGpus::refuse_launch(uint64_t index) { impl_->refused = index; }
void PlayedGpus::fail_launch(uint64_t index) { impl_->failing = index; }
void PlayedGpus::hang() { impl_->hangs = true; }

}  // namespace hybrid::test
