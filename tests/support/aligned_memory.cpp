#include "tests/support/aligned_memory.h"

#include <malloc.h>
#include <stdlib.h>

#include <atomic>
#include <new>

namespace {

std::atomic<int64_t> n_held{0};

/// Before the block lies its size; the distance keeps the alignment.
constexpr size_t kHead = 128;

}  // namespace

void* operator new(size_t n, std::align_val_t alignment) {
  void* p = nullptr;
  if (static_cast<size_t>(alignment) > kHead || posix_memalign(&p, kHead, n + kHead) != 0) {
    throw std::bad_alloc();
  }
  *static_cast<size_t*>(p) = n;
  n_held += static_cast<int64_t>(n);
  return static_cast<char*>(p) + kHead;
}

void operator delete(void* p, std::align_val_t) noexcept {
  if (p == nullptr) return;
  void* head = static_cast<char*>(p) - kHead;
  n_held -= static_cast<int64_t>(*static_cast<size_t*>(head));
  free(head);
}
void operator delete(void* p, size_t, std::align_val_t alignment) noexcept {
  operator delete(p, alignment);
}

namespace hybrid::test {

uint64_t aligned_bytes() { return static_cast<uint64_t>(n_held.load()); }

}  // namespace hybrid::test
