#pragma once
// Runs CUDA kernels on the host: a block at a time, each of its threads a fibre.
//
// A fibre runs until it has to wait: at a barrier for the block, in a warp operation (a shuffle, a
// vote, ldmatrix, mma) for the lanes of its mask. Which one goes on is up to `options`: in order,
// in reverse, or at random by a seed; blocks are taken in the same manner. A kernel that needs a
// barrier it does not have gives other results under another order, and what it must not do is
// reported wherever it can be seen (recorder.h lists more):
//
//   a barrier that some threads of the block do not reach; lanes that meet in different warp
//   operations, or name a lane that has exited; a shuffle from outside of its mask; deadlocks;
//   operands of ldmatrix and cp.async that are not aligned; cp.async waits that came too early
//
// Shared memory is filled with `poison` (0xff: NaN in every floating type) before each block, its
// arrays have red zones between them. A copy by cp.async lands when it is issued or when it is
// waited for, by coin toss: the one shows buffers that are overwritten while others still read
// them, the other shows waits that are missing.
//
// A report is a std::runtime_error thrown by run(). One thread of the host at a time.

#include <cstddef>
#include <cstdint>

namespace simt {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
  constexpr Dim3(uint32_t x_ = 1, uint32_t y_ = 1, uint32_t z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct Index3 {
  uint32_t x = 0, y = 0, z = 0;
};

enum class Order { forward, reverse, random };
enum class Landing { coin_toss, early, late };

struct Options {
  Order order = Order::random;
  uint64_t seed = 1;
  uint8_t poison = 0xff;
  Landing landing = Landing::coin_toss;
  size_t max_shared_bytes = 99 * 1024;  // what a block may have on sm_86, 89 and 120
};
extern Options options;

struct Statistics {
  uint64_t threads = 0, switches = 0, warp_ops = 0;
  size_t most_shared_bytes = 0;
};
extern Statistics statistics;

/// Runs body(argument) in every thread of the grid.
void run(Dim3 grid, Dim3 block, size_t shared_bytes, void (*body)(void*), void* argument);

/// Ends the run with a report. Also what was found elsewhere on behalf of the running thread.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...);

// For the running thread.
uint32_t lane();
void sync_block();
/// `op` runs once, when all lanes of the mask are there, over their frames (by lane).
using WarpOp = void (*)(void* const* frames, uint32_t mask);
void warp_op(uint32_t mask, WarpOp op, void* frame);
void sync_warp(uint32_t mask);

/// The block's array that stands at this place of the source.
void* shared_array(const void* place, size_t bytes, size_t alignment);
void* dynamic_shared();

void copy_async(void* to, const void* from, size_t bytes, size_t valid_bytes);
void commit_copies();
void wait_copies(int n_left);  // all but the n_left youngest groups

// Warp operations with operands in registers.
void mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, bool is_f16);
void ldmatrix(uint32_t* to, const void* row, int n_matrices, bool transposed);
void shuffle(uint32_t mask, const void* value, void* result, size_t bytes, uint32_t from_lane);
uint32_t ballot(uint32_t mask, bool predicate);

}  // namespace simt

extern simt::Index3 threadIdx, blockIdx;
extern simt::Dim3 blockDim, gridDim;
