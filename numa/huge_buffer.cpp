#include "numa/huge_buffer.h"

#include <sys/mman.h>

#include "base/error.h"
#include "base/rounding.h"
#include "base/units.h"

namespace hybrid {
namespace {

constexpr uint64_t kHugePage = uint64_t{2} << 20;

}  // namespace

uint64_t HugeBuffer::whole_pages(uint64_t n_bytes) { return round_up(n_bytes, kHugePage); }

HugeBuffer::HugeBuffer(uint64_t n_bytes) : n_bytes_(n_bytes) {
  if (n_bytes == 0) return;
  const bool is_countable = n_bytes < UINT64_MAX - 2 * kHugePage;
  if (is_countable) {
    n_mapped_ = whole_pages(n_bytes) + kHugePage;
    mapping_ = mmap(nullptr, n_mapped_, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  if (!is_countable || mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    fail("cannot take {} of memory", format_bytes(n_bytes));
  }
  data_ = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<uint64_t>(mapping_), kHugePage));
  madvise(data_, whole_pages(n_bytes), MADV_HUGEPAGE);  // a kernel without them ignores it
}

HugeBuffer::~HugeBuffer() {
  if (mapping_ != nullptr) munmap(mapping_, n_mapped_);
}

}  // namespace hybrid
