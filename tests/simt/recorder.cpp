#include "tests/simt/recorder.h"

#ifdef SIMT_RECORDER

#include <cstdlib>
#include <cstring>

#include "tests/simt/engine.h"

namespace simt::recorder {
namespace {

/// When and by whom. Phases are numbered through all blocks and launches: a new one begins with
/// each block and behind each barrier, so one number says launch, block and barrier.
struct Access {
  uint32_t phase = 0;  // 0: never
  uint8_t warp = 0, lane = 0;
  uint16_t warp_phase = 0;
};
constexpr uint8_t kManyLanes = 0xff;    // as lane: several lanes of the warp
constexpr uint8_t kManyWarps = 0xff;    // as warp: several warps of the block
constexpr uint8_t kManyBlocks = 0xfe;   // as warp: several blocks of the launch
constexpr uint16_t kInFlight = 0xffff;  // as warp_phase of a write: a copy that was not waited for
constexpr uint32_t kHostPhase = 1;

/// The last write of a word, and the reads since then that are not ordered before everything.
struct Cell {
  Access write, read;
};
constexpr size_t kWord = 2;

struct Memory {
  char* begin = nullptr;
  size_t bytes = 0;
  Cell* cells = nullptr;

  bool near(const char* p) const {
    return p >= begin - kGuardBytes && p < begin + bytes + kGuardBytes;
  }
  bool holds(const char* p, size_t n) const { return p >= begin && p + n <= begin + bytes; }
};

struct SharedArray {
  const char* begin;
  size_t bytes;
};

// Plain arrays: templates of the standard library that instrumented code uses, too, would be
// linked in their instrumented form and report the recorder to itself.
constexpr int kMaxMemories = 256, kMaxShared = 64;
Memory memories[kMaxMemories];
int n_memories = 0, last_memory = 0;
SharedArray shared[kMaxShared];
int n_shared = 0;
Memory arena;
uint32_t phase = kHostPhase + 1, first_of_launch = 0, first_of_block = 0;
Access me;
const char* stack_begin = nullptr;
size_t stack_bytes = 0;
bool recording = false;

extern "C" char __executable_start, _end;  // the program's image: code, constants, globals

Memory* find_memory(const char* p) {
  if (last_memory < n_memories && memories[last_memory].near(p)) return &memories[last_memory];
  for (int i = 0; i < n_memories; ++i) {
    if (memories[i].near(p)) {
      last_memory = i;
      return &memories[i];
    }
  }
  return nullptr;
}

bool is_ordered(const Access& a, bool is_shared) {
  // Each block has shared memory of its own, which only lies where another's lay.
  if (a.phase < (is_shared ? first_of_block : first_of_launch)) return true;
  if (a.warp == kManyBlocks || a.phase < first_of_block) return false;
  if (a.phase < phase) return true;
  if (a.warp != me.warp) return false;
  return a.lane == me.lane || a.warp_phase < me.warp_phase;
}

struct Where {
  const char* kind;
  long offset;
};
Where where(const char* p, bool is_shared, const Memory* memory) {
  if (!is_shared) return {"global", p - memory->begin};
  for (int i = 0; i < n_shared; ++i) {
    if (p >= shared[i].begin && p < shared[i].begin + shared[i].bytes) {
      return {"shared", p - shared[i].begin};
    }
  }
  return {"shared", p - arena.begin};
}

[[noreturn]] void report_race(const char* verb, const char* before, const Access& other,
                              const Where& at, size_t n) {
  if (other.warp == kManyBlocks || other.phase < first_of_block) {
    fail("race between blocks: %s %zu bytes at offset %ld of a buffer that another block %s", verb,
         n, at.offset, before);
  }
  if (other.warp == kManyWarps || other.lane == kManyLanes) {
    fail(
        "race: %s %zu bytes at offset %ld of %s memory that several threads %s since the last "
        "barrier",
        verb, n, at.offset, at.kind, before);
  }
  fail("race: %s %zu bytes at offset %ld of %s memory that thread %u %s since the last barrier",
       verb, n, at.offset, at.kind, 32u * other.warp + other.lane, before);
}

bool in_flight(const Access& a) { return a.warp_phase == kInFlight && a.phase >= first_of_block; }

void note_read(Access& r, bool is_shared) {
  if (r.phase < (is_shared ? first_of_block : first_of_launch)) {
    r = me;
  } else if (r.warp == kManyBlocks) {
    return;
  } else if (r.phase < first_of_block) {
    r.warp = kManyBlocks;
  } else if (r.phase < phase) {
    r = me;
  } else if (r.warp != me.warp) {
    r.warp = kManyWarps;
  } else if (r.lane == me.lane || r.warp_phase < me.warp_phase) {
    r = me;
  } else {
    r.lane = kManyLanes;
  }
}

void check_word(Cell& cell, bool is_write, bool is_shared, const Memory* memory, const char* p,
                size_t n) {
  if (in_flight(cell.write)) {
    const Where at = where(p, is_shared, memory);
    fail("copy not waited for: %s %zu bytes at offset %ld of %s memory while it is under way",
         is_write ? "writes" : "reads", n, at.offset, at.kind);
  }
  if (!is_ordered(cell.write, is_shared)) {
    report_race(is_write ? "writes" : "reads", "wrote", cell.write, where(p, is_shared, memory), n);
  }
  if (is_write) {
    if (!is_ordered(cell.read, is_shared)) {
      report_race("writes", "read", cell.read, where(p, is_shared, memory), n);
    }
    cell.write = me;
    return;
  }
  if (cell.write.phase < (is_shared ? first_of_block : 1u)) {
    const Where at = where(p, is_shared, memory);
    fail("uninitialised: reads %zu bytes at offset %ld of %s memory that nobody wrote", n,
         at.offset, at.kind);
  }
  note_read(cell.read, is_shared);
}

/// The cells of an access, or null where it is of no interest. Fails where it is out of bounds.
Cell* cells_of(const char* p, size_t n, bool is_write, bool& is_shared, Memory*& memory) {
  if (p >= stack_begin && p < stack_begin + stack_bytes) return nullptr;
  is_shared = p >= arena.begin && p < arena.begin + arena.bytes;
  if (is_shared) {
    memory = &arena;
    for (int i = 0; i < n_shared; ++i) {
      if (p >= shared[i].begin && p + n <= shared[i].begin + shared[i].bytes) {
        return arena.cells + (p - arena.begin) / kWord;
      }
    }
    fail("out of bounds: %s %zu bytes outside of the block's shared arrays",
         is_write ? "writes" : "reads", n);
  }
  memory = find_memory(p);
  if (memory == nullptr) {
    // Tables of constants lie in the program's image.
    if (!is_write && p >= &__executable_start && p < &_end) return nullptr;
    fail("out of bounds: %s %zu bytes at an address that is no device memory",
         is_write ? "writes" : "reads", n);
  }
  if (!memory->holds(p, n)) {
    fail("out of bounds: %s %zu bytes at offset %ld of a global buffer of %zu bytes",
         is_write ? "writes" : "reads", n, static_cast<long>(p - memory->begin), memory->bytes);
  }
  return memory->cells + (p - memory->begin) / kWord;
}

void check(const char* p, size_t n, bool is_write) {
  bool is_shared = false;
  Memory* memory = nullptr;
  Cell* cell = cells_of(p, n, is_write, is_shared, memory);
  if (cell == nullptr) return;
  const size_t first = reinterpret_cast<uintptr_t>(p) % kWord;
  for (size_t i = 0; i < (first + n + kWord - 1) / kWord; ++i) {
    check_word(cell[i], is_write, is_shared, memory, p, n);
  }
}

void plain_access(const void* p, size_t n, bool is_write) {
  if (!recording) return;
  recording = false;
  if (reinterpret_cast<uintptr_t>(p) % n != 0) {
    fail("misaligned: %s %zu bytes at an address that is no multiple of %zu",
         is_write ? "writes" : "reads", n, n);
  }
  check(static_cast<const char*>(p), n, is_write);
  recording = true;
}

void any_access(const void* p, size_t n, bool is_write) {
  if (!recording || n == 0) return;
  recording = false;
  check(static_cast<const char*>(p), n, is_write);
  recording = true;
}

Cell* new_cells(size_t bytes) {
  return static_cast<Cell*>(std::calloc(bytes / kWord + 1, sizeof(Cell)));
}

}  // namespace

void add_memory(void* begin, size_t bytes) {
  if (n_memories == kMaxMemories) std::abort();
  memories[n_memories++] = {static_cast<char*>(begin), bytes, new_cells(bytes)};
}

void remove_memory(void* begin) {
  for (int i = 0; i < n_memories; ++i) {
    if (memories[i].begin != begin) continue;
    std::free(memories[i].cells);
    memories[i] = memories[--n_memories];
    return;
  }
  std::abort();
}

void host_wrote(void* begin, size_t bytes) {
  Memory* memory = find_memory(static_cast<char*>(begin));
  const size_t first = static_cast<size_t>(static_cast<char*>(begin) - memory->begin) / kWord;
  for (size_t i = 0; i < (bytes + kWord - 1) / kWord; ++i) {
    memory->cells[first + i].write.phase = kHostPhase;
  }
}

bool is_written(const void* begin, size_t bytes) {
  const Memory* memory = find_memory(static_cast<const char*>(begin));
  const size_t first = static_cast<size_t>(static_cast<const char*>(begin) - memory->begin) / kWord;
  for (size_t i = 0; i < (bytes + kWord - 1) / kWord; ++i) {
    if (memory->cells[first + i].write.phase == 0) return false;
  }
  return true;
}

void begin_launch(void* arena_begin, size_t arena_bytes) {
  if (arena.bytes < arena_bytes) {
    std::free(arena.cells);
    arena.cells = new_cells(arena_bytes);
  }
  arena.begin = static_cast<char*>(arena_begin);
  arena.bytes = arena_bytes;
  first_of_launch = ++phase;
}

void begin_block() {
  first_of_block = ++phase;
  n_shared = 0;
}

void add_shared(const void* begin, size_t bytes) {
  if (n_shared == kMaxShared) std::abort();
  shared[n_shared++] = {static_cast<const char*>(begin), bytes};
}

void block_barrier() { ++phase; }
void end_launch() { recording = false; }

void set_thread(uint32_t thread, uint32_t warp_phase, const void* stack, size_t bytes) {
  if (warp_phase >= kInFlight) fail("the harness counts no more than 65534 __syncwarps in a row");
  me = {phase, static_cast<uint8_t>(thread / 32), static_cast<uint8_t>(thread % 32),
        static_cast<uint16_t>(warp_phase)};
  stack_begin = static_cast<const char*>(stack);
  stack_bytes = bytes;
}

void pause(bool paused) { recording = !paused; }

void read(const void* p, size_t n) { check(static_cast<const char*>(p), n, false); }
void write(void* p, size_t n) { check(static_cast<const char*>(p), n, true); }

namespace {

void set_writes(void* to, size_t n, const Access& access) {
  bool is_shared = false;
  Memory* memory = nullptr;
  Cell* cell = cells_of(static_cast<char*>(to), n, true, is_shared, memory);
  for (size_t i = 0; cell != nullptr && i < n / kWord; ++i) cell[i].write = access;
}

}  // namespace

void copy_issued(void* to, size_t n) {
  write(to, n);
  Access access = me;
  access.warp_phase = kInFlight;
  set_writes(to, n, access);
}

void copy_landed(void* to, size_t n) { set_writes(to, n, me); }

}  // namespace simt::recorder

// What the compiler calls.
using simt::recorder::any_access;
using simt::recorder::plain_access;

#define SIMT_ACCESSES(bytes)                                                           \
  void __tsan_read##bytes(void* p) { plain_access(p, bytes, false); }                  \
  void __tsan_write##bytes(void* p) { plain_access(p, bytes, true); }                  \
  void __tsan_volatile_read##bytes(void* p) { plain_access(p, bytes, false); }         \
  void __tsan_volatile_write##bytes(void* p) { plain_access(p, bytes, true); }         \
  void __tsan_unaligned_read##bytes(void* p) { any_access(p, bytes, false); }          \
  void __tsan_unaligned_write##bytes(void* p) { any_access(p, bytes, true); }          \
  void __tsan_unaligned_volatile_read##bytes(void* p) { any_access(p, bytes, false); } \
  void __tsan_unaligned_volatile_write##bytes(void* p) { any_access(p, bytes, true); }

// Kernels have no atomics; the standard library's, in instrumented tests, keep their meaning.
#define SIMT_ATOMICS(bits, type)                                                             \
  type __tsan_atomic##bits##_load(const volatile type* p, int) {                             \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                             \
  }                                                                                          \
  void __tsan_atomic##bits##_store(volatile type* p, type v, int) {                          \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                \
  }                                                                                          \
  type __tsan_atomic##bits##_exchange(volatile type* p, type v, int) {                       \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                          \
  type __tsan_atomic##bits##_fetch_add(volatile type* p, type v, int) {                      \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                       \
  }                                                                                          \
  type __tsan_atomic##bits##_fetch_sub(volatile type* p, type v, int) {                      \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                       \
  }                                                                                          \
  bool __tsan_atomic##bits##_compare_exchange_strong(volatile type* p, type* e, type v, int, \
                                                     int) {                                  \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);  \
  }

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_read_range(void* p, unsigned long n) { any_access(p, n, false); }
void __tsan_write_range(void* p, unsigned long n) { any_access(p, n, true); }
SIMT_ACCESSES(1)
SIMT_ACCESSES(2)
SIMT_ACCESSES(4)
SIMT_ACCESSES(8)
SIMT_ACCESSES(16)
SIMT_ATOMICS(8, uint8_t)
SIMT_ATOMICS(32, uint32_t)
SIMT_ATOMICS(64, uint64_t)
}

#endif
