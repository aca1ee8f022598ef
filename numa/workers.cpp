#include "numa/workers.h"

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <mutex>

#include "base/error.h"

namespace hybrid {

namespace {

/// TBB offers no more threads than the processors it sees unless told so; -t may ask for more. Of
/// several limits the smallest holds, so there is one for the process, and it only grows.
void allow_threads(size_t n_threads) {
  static std::mutex mutex;
  static std::unique_ptr<tbb::global_control> limit;
  constexpr auto kParameter = tbb::global_control::max_allowed_parallelism;
  const std::lock_guard lock(mutex);
  if (n_threads <= tbb::global_control::active_value(kParameter)) return;
  limit.reset();
  limit = std::make_unique<tbb::global_control>(kParameter, n_threads);
}

}  // namespace

struct Workers::Arena {
  explicit Arena(int n_threads) : arena((allow_threads(n_threads), n_threads)) {}
  tbb::task_arena arena;
};

Workers::Workers(int n_threads) : n_threads_(n_threads) {
  HYBRID_CHECK(n_threads >= 1);
  if (n_threads > 1) arena_ = std::make_unique<Arena>(n_threads);
}

Workers::~Workers() = default;

void Workers::parallel_for(uint64_t n, uint64_t grain,
                           const std::function<void(uint64_t begin, uint64_t end)>& body) {
  if (n == 0) return;
  grain = std::max<uint64_t>(1, grain);
  if (arena_ == nullptr || n <= grain) return body(0, n);
  arena_->arena.execute([&] {
    tbb::parallel_for(
        tbb::blocked_range<uint64_t>(0, n, grain),
        [&](const tbb::blocked_range<uint64_t>& range) { body(range.begin(), range.end()); });
  });
}

void Workers::parallel_ranges(
    uint64_t n, uint64_t multiple,
    const std::function<void(uint64_t begin, uint64_t end, int index)>& body) {
  const uint64_t units = (n + multiple - 1) / multiple;
  parallel_for(static_cast<uint64_t>(n_threads_), 1, [&](uint64_t b, uint64_t e) {
    for (uint64_t i = b; i < e; ++i) {
      const uint64_t begin = units * i / n_threads_ * multiple;
      const uint64_t end = std::min(n, units * (i + 1) / n_threads_ * multiple);
      if (begin < end) body(begin, end, static_cast<int>(i));
    }
  });
}

}  // namespace hybrid
