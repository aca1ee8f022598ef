#pragma once
// Watches every load and store of kernels, in builds that have no sanitizer.
//
// Kernels are compiled with -fsanitize=thread, but without its library: the calls that the compiler
// puts before each access come here instead. So a rule can be known that no sanitizer knows: what
// is ordered before what in a grid of CUDA threads.
//
//   two accesses of one word, one of them a store, by different threads are ordered if
//     - a launch lies between them, or
//     - a barrier of their block, or
//     - a __syncwarp of all 32 lanes of their warp.
//   Nothing else orders: no shuffle, no vote, no mma; nothing between blocks of a launch.
//
// Reported, each at the access that is wrong: races as defined above (in whichever order the
// fibres happened to run); reads of what nobody wrote; accesses outside of the block's shared
// arrays and of device buffers; addresses that are no multiple of the access's size; anything done
// to the destination of a copy that nobody has waited for.
//
// A word is 2 bytes: byte stores of different threads next to each other count as one.

#include <cstddef>
#include <cstdint>

#ifdef SIMT_RECORDER

namespace simt::recorder {

// Device memory. Whoever allocates it leaves kGuardBytes before and behind it untouched.
inline constexpr size_t kGuardBytes = 256;
void add_memory(void* begin, size_t bytes);
void remove_memory(void* begin);
/// The host wrote it (a copy to the device).
void host_wrote(void* begin, size_t bytes);
/// Whether all of it was written by anyone.
bool is_written(const void* begin, size_t bytes);

// Called by the engine.
void begin_launch(void* arena, size_t arena_bytes);
void begin_block();
void add_shared(const void* begin, size_t bytes);
void block_barrier();
void end_launch();
/// The thread that runs from now on; warp_phase counts its full __syncwarps since the last barrier.
void set_thread(uint32_t thread, uint32_t warp_phase, const void* stack, size_t stack_bytes);
/// Outside of kernels, and in the engine, nothing is recorded.
void pause(bool paused);

// Accesses that are no plain loads and stores.
void read(const void* p, size_t bytes);
void write(void* p, size_t bytes);
void copy_issued(void* to, size_t bytes);
void copy_landed(void* to, size_t bytes);

}  // namespace simt::recorder

#else

namespace simt::recorder {

inline constexpr size_t kGuardBytes = 0;
inline void add_memory(void*, size_t) {}
inline void remove_memory(void*) {}
inline void host_wrote(void*, size_t) {}
inline bool is_written(const void*, size_t) { return true; }
inline void begin_launch(void*, size_t) {}
inline void begin_block() {}
inline void add_shared(const void*, size_t) {}
inline void block_barrier() {}
inline void end_launch() {}
inline void set_thread(uint32_t, uint32_t, const void*, size_t) {}
inline void pause(bool) {}
inline void read(const void*, size_t) {}
inline void write(void*, size_t) {}
inline void copy_issued(void*, size_t) {}
inline void copy_landed(void*, size_t) {}

}  // namespace simt::recorder

#endif
