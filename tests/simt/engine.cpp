#include "tests/simt/engine.h"

#include <sys/mman.h>

#include <bit>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "base/half.h"
#include "tests/simt/fiber.h"
#include "tests/simt/recorder.h"
#include "tests/simt/sanitizers.h"

simt::Index3 threadIdx, blockIdx;
simt::Dim3 blockDim, gridDim;

namespace simt {

Options options;
Statistics statistics;

namespace {

constexpr uint32_t kMaxThreads = 1024, kMaxArrays = 64, kMaxGroups = 64;
constexpr size_t kArenaBytes = 512 * 1024, kRedZone = 64;

enum class State { ready, at_barrier, in_warp_op, done };

struct Copy {
  void* to;
  const void* from;
  size_t bytes, valid_bytes;
  bool landed;
};

/// Copies that have not been waited for, oldest first, and where the committed groups end.
/// (No std::vector here: see recorder.cpp.)
struct CopyQueue {
  Copy* copies = nullptr;
  int n = 0, capacity = 0, n_groups = 0;
  int group_end[kMaxGroups];
};

struct Thread {
  Fiber* fiber = nullptr;
  Index3 index;
  uint32_t number = 0;
  State state = State::done;
  uint32_t mask = 0;
  WarpOp op = nullptr;
  void* frame = nullptr;
  uint32_t warp_phase = 0;  // full __syncwarps since the last barrier
  CopyQueue queue;
};

struct SharedSite {
  const void* place;
  void* array;
};

struct Engine {
  Thread* threads[kMaxThreads] = {};
  uint32_t n_threads = 0, n_done = 0, n_at_barrier = 0;
  uint32_t ready[kMaxThreads];
  uint32_t n_ready = 0;
  Thread* current = nullptr;
  Fiber* host = nullptr;
  void (*body)(void*) = nullptr;
  void* argument = nullptr;
  unsigned char* arena = nullptr;
  size_t arena_used = 0;
  SharedSite sites[kMaxArrays];
  uint32_t n_sites = 0;
  void* dynamic = nullptr;
  uint64_t random = 1;
  char message[512];
  bool failed = false;
#ifdef SIMT_TSAN
  // Tokens that carry TSan's happens-before.
  // Tokens of barriers in turns: who leaves one late must not see what was done before the next.
  char launch_token, end_token, fail_token, block_tokens[2], warp_tokens[32][2];
  uint32_t n_barriers = 0;
#endif
};
Engine e;

uint64_t next_random() {
  e.random ^= e.random << 13;
  e.random ^= e.random >> 7;
  e.random ^= e.random << 17;
  return e.random >> 11;
}

void announce(const Thread& t) {
  threadIdx = t.index;
  const char* stack = nullptr;
  size_t bytes = 0;
  t.fiber->stack(stack, bytes);
  recorder::set_thread(t.number, t.warp_phase, stack, bytes);
}

/// Leaves the running thread (or the host) for one that is ready, or for the host if none is.
void run_next() {
  Fiber* from = e.current != nullptr ? e.current->fiber : e.host;
  Fiber* to = e.host;
  Thread* next = nullptr;
  if (e.n_ready > 0 && !e.failed) {
    uint32_t at = e.n_ready - 1;  // the list is kept with the next one last
    if (options.order == Order::random) {
      at = static_cast<uint32_t>(next_random() % e.n_ready);
    }
    next = e.threads[e.ready[at]];
    e.ready[at] = e.ready[--e.n_ready];
    to = next->fiber;
  }
  e.current = next;
  if (next != nullptr) announce(*next);
  if (from == to) return;
  ++statistics.switches;
  Fiber::switch_to(*from, *to);
}

/// Threads that waited become ready, so that they run in the order of the options.
void make_ready(uint32_t begin, uint32_t end, State state, uint32_t mask) {
  const auto visit = [&](uint32_t i) {
    Thread& t = *e.threads[i];
    if (t.state != state || (mask >> (i % 32) & 1) == 0) return;
    t.state = State::ready;
    e.ready[e.n_ready++] = i;
  };
  if (options.order == Order::reverse) {
    for (uint32_t i = begin; i < end; ++i) visit(i);
  } else {
    for (uint32_t i = end; i-- > begin;) visit(i);
  }
}

void land(Copy& copy) {
  SIMT_TSAN_WRITE(copy.to, copy.bytes);
  if (copy.valid_bytes > 0) SIMT_TSAN_READ(copy.from, copy.valid_bytes);
  std::memcpy(copy.to, copy.from, copy.valid_bytes);
  std::memset(static_cast<char*>(copy.to) + copy.valid_bytes, 0, copy.bytes - copy.valid_bytes);
  copy.landed = true;
}

void leave_barrier_if_all_are_there() {
  if (e.n_at_barrier == 0 || e.n_at_barrier + e.n_done < e.n_threads) return;
  if (e.n_done > 0) {
    fail("%u threads wait at a barrier of the block that %u threads never reached", e.n_at_barrier,
         e.n_done);
  }
  e.n_at_barrier = 0;
#ifdef SIMT_TSAN
  ++e.n_barriers;
#endif
  recorder::block_barrier();
  for (uint32_t i = 0; i < e.n_threads; ++i) e.threads[i]->warp_phase = 0;
  make_ready(0, e.n_threads, State::at_barrier, ~0u);
}

void thread_main() {
  Fiber::entered();
  for (;;) {
    SIMT_TSAN_ACQUIRE(&e.launch_token);
    recorder::pause(false);
    e.body(e.argument);
    recorder::pause(true);
    SIMT_TSAN_RELEASE(&e.end_token);
    if (e.current->queue.n > 0) fail("the thread ends with copies that it did not wait for");
    e.current->state = State::done;
    ++e.n_done;
    leave_barrier_if_all_are_there();
    run_next();
  }
}

void* carve(size_t bytes, size_t alignment) {
  const size_t at = (e.arena_used + alignment - 1) / alignment * alignment;
  if (at + bytes + kRedZone > kArenaBytes)
    fail("the harness has no room for so much shared memory");
  e.arena_used = at + bytes + kRedZone;
  SIMT_ASAN_UNPOISON(e.arena + at, bytes);
  recorder::add_shared(e.arena + at, bytes);
  return e.arena + at;
}

void prepare_arena(size_t shared_bytes) {
  SIMT_ASAN_UNPOISON(e.arena, kArenaBytes);
#ifdef SIMT_TSAN
  // Fresh pages, or TSan takes one block's use of the arena for a race with the next one's.
  munmap(e.arena, kArenaBytes);
  e.arena = nullptr;
#endif
  if (e.arena == nullptr) {
    e.arena = static_cast<unsigned char*>(
        mmap(nullptr, kArenaBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (e.arena == MAP_FAILED) std::abort();
  }
  // What static arrays may take beside the dynamic one on real devices is 48 KiB.
  std::memset(e.arena, options.poison, shared_bytes + 64 * 1024);
  SIMT_ASAN_POISON(e.arena, kArenaBytes);
}

void run_block(size_t shared_bytes) {
  prepare_arena(shared_bytes);
  recorder::begin_block();
  e.arena_used = kRedZone;
  e.n_sites = 0;
  e.n_done = e.n_at_barrier = e.n_ready = 0;
  e.dynamic = carve(shared_bytes, 128);
  SIMT_TSAN_RELEASE(&e.launch_token);
#ifdef SIMT_TSAN
  // Otherwise thread i of every block is one fibre, and what it does in two blocks looks ordered.
  for (uint32_t i = e.n_threads; i > 1; --i) {
    const auto j = static_cast<uint32_t>(next_random() % i);
    Thread* t = e.threads[i - 1];
    e.threads[i - 1] = e.threads[j];
    e.threads[j] = t;
  }
#endif
  for (uint32_t i = 0; i < e.n_threads; ++i) {
    Thread& t = *e.threads[i];
    t.number = i;
    t.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    t.warp_phase = 0;
    t.state = State::in_warp_op;  // for make_ready
    t.queue.n = t.queue.n_groups = 0;
  }
  make_ready(0, e.n_threads, State::in_warp_op, ~0u);
  statistics.threads += e.n_threads;
  if (e.arena_used > statistics.most_shared_bytes) statistics.most_shared_bytes = e.arena_used;
  e.current = nullptr;
  run_next();
  recorder::pause(true);
  if (!e.failed && e.n_done < e.n_threads) {
    uint32_t at_barrier = 0, in_op = 0, mask = 0;
    for (uint32_t i = 0; i < e.n_threads; ++i) {
      at_barrier += e.threads[i]->state == State::at_barrier;
      if (e.threads[i]->state != State::in_warp_op) continue;
      ++in_op;
      mask = e.threads[i]->mask;
    }
    std::snprintf(e.message, sizeof(e.message),
                  "SIMT error, block (%u,%u,%u): deadlock: %u threads at a barrier, %u in a warp "
                  "operation (one with mask %08x), %u done",
                  blockIdx.x, blockIdx.y, blockIdx.z, at_barrier, in_op, mask, e.n_done);
    e.failed = true;
  }
}

}  // namespace

void fail(const char* format, ...) {
  recorder::pause(true);
  char text[384];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  std::snprintf(e.message, sizeof(e.message), "SIMT error, block (%u,%u,%u) thread (%u,%u,%u): %s",
                blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, text);
  e.failed = true;
  SIMT_TSAN_RELEASE(&e.fail_token);
  if (e.current == nullptr) throw std::runtime_error(e.message);
  run_next();  // to the host, which does not come back
  std::abort();
}

uint32_t lane() { return e.current->number % 32; }

void sync_block() {
  recorder::pause(true);
#ifdef SIMT_TSAN
  char* token = &e.block_tokens[e.n_barriers % 2];
#endif
  SIMT_TSAN_RELEASE(token);
  e.current->state = State::at_barrier;
  ++e.n_at_barrier;
  leave_barrier_if_all_are_there();
  run_next();
  SIMT_TSAN_ACQUIRE(token);
  recorder::pause(false);
}

void warp_op(uint32_t mask, WarpOp op, void* frame) {
  recorder::pause(true);
  Thread& me = *e.current;
  const uint32_t begin = me.number / 32 * 32;
  const uint32_t n_lanes = e.n_threads - begin < 32 ? e.n_threads - begin : 32;
  const uint32_t there = n_lanes == 32 ? ~0u : (1u << n_lanes) - 1;
  if ((mask >> (me.number % 32) & 1) == 0) {
    fail("lane %u is not in the mask %08x of its own warp operation", me.number % 32, mask);
  }
  if ((mask & ~there) != 0) fail("mask %08x names lanes that the block does not have", mask);
  me.mask = mask;
  me.op = op;
  me.frame = frame;
  me.state = State::in_warp_op;
  void* frames[32] = {};
  bool all = true;
  for (uint32_t l = 0; l < n_lanes && all; ++l) {
    if ((mask >> l & 1) == 0) continue;
    const Thread& other = *e.threads[begin + l];
    if (other.state == State::done) {
      fail("a warp operation with mask %08x, but lane %u has exited", mask, l);
    }
    all = other.state == State::in_warp_op && other.mask == mask;
    frames[l] = other.frame;
  }
  if (all) {
    for (uint32_t l = 0; l < n_lanes; ++l) {
      if ((mask >> l & 1) != 0 && e.threads[begin + l]->op != op) {
        fail("lanes %u and %u meet in different warp operations", me.number % 32, l);
      }
    }
    ++statistics.warp_ops;
    op(frames, mask);
    make_ready(begin, begin + n_lanes, State::in_warp_op, mask);
  }
  run_next();
  recorder::pause(false);
}

void sync_warp(uint32_t mask) {
#ifdef SIMT_TSAN
  char* token = &e.warp_tokens[e.current->number / 32][e.current->warp_phase % 2];
#endif
  SIMT_TSAN_RELEASE(token);
  warp_op(
      mask,
      [](void* const*, uint32_t lanes) {
        const uint32_t begin = e.current->number / 32 * 32;
        for (uint32_t l = 0; lanes == ~0u && l < 32; ++l) ++e.threads[begin + l]->warp_phase;
      },
      nullptr);
  SIMT_TSAN_ACQUIRE(token);
}

void* shared_array(const void* place, size_t bytes, size_t alignment) {
  for (uint32_t i = 0; i < e.n_sites; ++i) {
    if (e.sites[i].place == place) return e.sites[i].array;
  }
  if (e.n_sites == kMaxArrays) fail("more shared arrays than the harness has room for");
  void* array = carve(bytes, alignment < 16 ? 16 : alignment);
  e.sites[e.n_sites++] = {place, array};
  return array;
}

void* dynamic_shared() { return e.dynamic; }

void copy_async(void* to, const void* from, size_t bytes, size_t valid_bytes) {
  recorder::pause(true);
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0 ||
      reinterpret_cast<uintptr_t>(from) % bytes != 0) {
    fail("misaligned: cp.async of %zu bytes", bytes);
  }
  SIMT_TSAN_WRITE(to, bytes);  // the copy may land at any time from here on
  recorder::copy_issued(to, bytes);
  if (valid_bytes > 0) recorder::read(from, valid_bytes);
  CopyQueue& q = e.current->queue;
  if (q.n == q.capacity) {
    q.capacity = q.capacity == 0 ? 64 : 2 * q.capacity;
    q.copies = static_cast<Copy*>(std::realloc(q.copies, sizeof(Copy) * q.capacity));
  }
  Copy& copy = q.copies[q.n++] = {to, from, bytes, valid_bytes, false};
  if (options.landing == Landing::early ||
      (options.landing == Landing::coin_toss && next_random() % 2 == 0)) {
    land(copy);
  }
  recorder::pause(false);
}

void commit_copies() {
  CopyQueue& q = e.current->queue;
  if (q.n_groups == static_cast<int>(kMaxGroups)) fail("64 groups of copies are under way");
  q.group_end[q.n_groups++] = q.n;
}

void wait_copies(int n_left) {
  CopyQueue& q = e.current->queue;
  if (q.n_groups <= n_left) return;
  recorder::pause(true);
  const int n_groups = q.n_groups - n_left, n = q.group_end[n_groups - 1];
  for (int i = 0; i < n; ++i) {
    if (!q.copies[i].landed) land(q.copies[i]);
    recorder::copy_landed(q.copies[i].to, q.copies[i].bytes);
  }
  std::memmove(q.copies, q.copies + n, sizeof(Copy) * static_cast<size_t>(q.n - n));
  q.n -= n;
  for (int i = n_groups; i < q.n_groups; ++i) q.group_end[i - n_groups] = q.group_end[i] - n;
  q.n_groups = n_left;
  recorder::pause(false);
}

// ---- warp operations ----------------------------------------------------------------------------

namespace {

struct ShuffleFrame {
  const void* value;
  void* result;
  size_t bytes;
  uint32_t from;
};

/// No memcpy: TSan would see one thread in another one's stack.
void copy_bytes(const void* from, void* to, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    static_cast<volatile char*>(to)[i] = static_cast<const volatile char*>(from)[i];
  }
}

void shuffle_op(void* const* frames, uint32_t mask) {
  for (uint32_t l = 0; l < 32; ++l) {
    if ((mask >> l & 1) == 0) continue;
    auto* f = static_cast<ShuffleFrame*>(frames[l]);
    if ((mask >> f->from & 1) == 0) {
      fail("a shuffle reads lane %u, which is not in its mask %08x", f->from, mask);
    }
    copy_bytes(static_cast<ShuffleFrame*>(frames[f->from])->value, f->result, f->bytes);
  }
}

struct VoteFrame {
  bool predicate;
  uint32_t result;
};

void ballot_op(void* const* frames, uint32_t mask) {
  uint32_t votes = 0;
  for (uint32_t l = 0; l < 32; ++l) {
    if ((mask >> l & 1) != 0 && static_cast<VoteFrame*>(frames[l])->predicate) votes |= 1u << l;
  }
  for (uint32_t l = 0; l < 32; ++l) {
    if ((mask >> l & 1) != 0) static_cast<VoteFrame*>(frames[l])->result = votes;
  }
}

struct MmaFrame {
  float* d;
  const uint32_t *a, *b;
};

template <bool kF16>
float half_of(uint32_t pair, int i) {
  const auto bits = static_cast<uint16_t>(pair >> (16 * i));
  return kF16 ? hybrid::f16_to_f32(bits) : hybrid::bf16_to_f32(bits);
}

/// Products are exact, a sum of 16 is a chain of floats. Hardware adds in another order and
/// truncates, so results are comparable within tolerance only.
template <bool kF16>
void mma_op(void* const* frames, uint32_t) {
  float a[16][16], b[16][8];
  for (int l = 0; l < 32; ++l) {
    const auto* f = static_cast<const MmaFrame*>(frames[l]);
    const int group = l / 4, pair = l % 4 * 2;
    for (int i = 0; i < 2; ++i) {
      a[group][pair + i] = half_of<kF16>(f->a[0], i);
      a[group + 8][pair + i] = half_of<kF16>(f->a[1], i);
      a[group][pair + 8 + i] = half_of<kF16>(f->a[2], i);
      a[group + 8][pair + 8 + i] = half_of<kF16>(f->a[3], i);
      b[pair + i][group] = half_of<kF16>(f->b[0], i);
      b[pair + 8 + i][group] = half_of<kF16>(f->b[1], i);
    }
  }
  float d[16][8] = {};
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 8; ++n) d[m][n] += a[m][k] * b[k][n];
    }
  }
  for (int l = 0; l < 32; ++l) {
    const auto* f = static_cast<const MmaFrame*>(frames[l]);
    for (int i = 0; i < 4; ++i) f->d[i] += d[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
  }
}

struct LdmatrixFrame {
  uint32_t* to;
  const void* row;
};

template <int kMatrices, bool kTransposed>
void ldmatrix_op(void* const* frames, uint32_t) {
  for (int m = 0; m < kMatrices; ++m) {
    for (int l = 0; l < 32; ++l) {
      uint16_t words[2];
      for (int i = 0; i < 2; ++i) {
        const int row = kTransposed ? l % 4 * 2 + i : l / 4;
        const int column = kTransposed ? l / 4 : l % 4 * 2 + i;
        words[i] = static_cast<const uint16_t*>(
            static_cast<const LdmatrixFrame*>(frames[8 * m + row])->row)[column];
      }
      static_cast<const LdmatrixFrame*>(frames[l])->to[m] =
          words[0] | static_cast<uint32_t>(words[1]) << 16;
    }
  }
}

}  // namespace

void shuffle(uint32_t mask, const void* value, void* result, size_t bytes, uint32_t from_lane) {
  ShuffleFrame frame{value, result, bytes, from_lane};
  warp_op(mask, shuffle_op, &frame);
}

uint32_t ballot(uint32_t mask, bool predicate) {
  VoteFrame frame{predicate, 0};
  warp_op(mask, ballot_op, &frame);
  return frame.result;
}

void mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, bool is_f16) {
  MmaFrame frame{d, a, b};
  warp_op(~0u, is_f16 ? mma_op<true> : mma_op<false>, &frame);
}

void ldmatrix(uint32_t* to, const void* row, int n_matrices, bool transposed) {
  recorder::pause(true);
  // The lane that names a row is the one that reads it, for whoever watches accesses.
  if (lane() < 8 * static_cast<uint32_t>(n_matrices)) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fail("misaligned: a row of ldmatrix");
    SIMT_TSAN_READ(row, 16);
    recorder::read(row, 16);
  }
  LdmatrixFrame frame{to, row};
  WarpOp op = nullptr;
  if (n_matrices == 4) op = transposed ? ldmatrix_op<4, true> : ldmatrix_op<4, false>;
  if (n_matrices == 2) op = transposed ? ldmatrix_op<2, true> : ldmatrix_op<2, false>;
  warp_op(~0u, op, &frame);
}

void run(Dim3 grid, Dim3 block, size_t shared_bytes, void (*body)(void*), void* argument) {
  const uint64_t n_threads = uint64_t{block.x} * block.y * block.z;
  const uint64_t n_blocks = uint64_t{grid.x} * grid.y * grid.z;
  if (n_threads < 1 || n_threads > kMaxThreads) throw std::runtime_error("SIMT error: block size");
  if (n_blocks < 1 || grid.y > 65535 || grid.z > 65535) {
    throw std::runtime_error("SIMT error: grid size");
  }
  if (shared_bytes > options.max_shared_bytes) {
    throw std::runtime_error("SIMT error: more dynamic shared memory than the device has");
  }
  e.host = Fiber::of_this_thread();
  e.n_threads = static_cast<uint32_t>(n_threads);
  for (uint32_t i = 0; i < e.n_threads; ++i) {
    if (e.threads[i] != nullptr) continue;
    e.threads[i] = new Thread;
    e.threads[i]->fiber = new Fiber(thread_main);
  }
  e.body = body;
  e.argument = argument;
  e.failed = false;
  e.random = options.seed * 0x9e3779b97f4a7c15ull | 1;
  for (int i = 0; i < 8; ++i) next_random();
  gridDim = grid;
  blockDim = block;
  prepare_arena(shared_bytes);
  recorder::begin_launch(e.arena, kArenaBytes);
  // Random order of blocks: a random start and a stride that meets each block once.
  uint64_t start = 0, stride = 1;
  if (options.order == Order::reverse) {
    start = n_blocks - 1;
    stride = n_blocks - 1;
  } else if (options.order == Order::random) {
    start = next_random() % n_blocks;
    const auto common = [](uint64_t a, uint64_t b) {
      while (b != 0) {
        const uint64_t rest = a % b;
        a = b;
        b = rest;
      }
      return a;
    };
    do {
      stride = 1 + next_random() % n_blocks;
    } while (common(stride, n_blocks) != 1);
  }
  for (uint64_t i = 0; i < n_blocks; ++i) {
    const uint64_t b = (start + i * stride) % n_blocks;
    blockIdx = {static_cast<uint32_t>(b % grid.x), static_cast<uint32_t>(b / grid.x % grid.y),
                static_cast<uint32_t>(b / grid.x / grid.y)};
    run_block(shared_bytes);
    if (e.failed) break;
  }
  recorder::end_launch();
  SIMT_TSAN_ACQUIRE(&e.end_token);
  SIMT_ASAN_UNPOISON(e.arena, kArenaBytes);
  if (!e.failed) return;
  SIMT_TSAN_ACQUIRE(&e.fail_token);
  for (uint32_t i = 0; i < e.n_threads; ++i) e.threads[i]->fiber->restart();
  throw std::runtime_error(e.message);
}

}  // namespace simt
