#include "numa/workers.h"

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>

#include "base/error.h"

namespace hybrid {

struct Workers::Arena {
  // TBB offers no more threads than the processors it sees unless told so; -t may ask for more.
  explicit Arena(int n_threads)
      : limit(tbb::global_control::max_allowed_parallelism,
              std::max<size_t>(n_threads, tbb::global_control::active_value(
                                              tbb::global_control::max_allowed_parallelism))),
        arena(n_threads) {}
  tbb::global_control limit;
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

}  // namespace hybrid
