#pragma once
// The threads that compute. A region of work is a range of independent items; how it is split never
// changes a result, because no item's arithmetic depends on another item.

#include <cstdint>
#include <functional>
#include <memory>

namespace hybrid {

class Workers {
 public:
  /// n_threads >= 1, the caller's thread among them.
  explicit Workers(int n_threads);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  int n_threads() const { return n_threads_; }

  /// Calls body(begin, end) on disjoint ranges that cover [0, n), about `grain` items long, and
  /// returns when all are done. Not to be nested.
  void parallel_for(uint64_t n, uint64_t grain,
                    const std::function<void(uint64_t begin, uint64_t end)>& body);

  void parallel_ranges(
      uint64_t n, uint64_t multiple,
      const std::function<void(uint64_t begin, uint64_t end, int index)>& body);

 private:
  struct Arena;
  int n_threads_;
  std::unique_ptr<Arena> arena_;
};

}  // namespace hybrid
