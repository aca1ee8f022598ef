#pragma once
// How fast memory can be read: the yardstick for what weights cost.

#include <cstdint>

#include "numa/workers.h"

namespace hybrid {

struct ReadBandwidth {
  double gb_per_s = 0;  // 1e9 bytes
  uint64_t buffer_bytes = 0;
  int n_passes = 0;
};

/// The buffer that a measurement may take where `available_bytes` of memory are left: 1 GiB (far
/// beyond most caches), at most a quarter of what is left, and never less than 64 MiB.
uint64_t bandwidth_buffer_bytes(uint64_t available_bytes);

/// Reads a buffer (huge pages where the system gives them) from end to end with all workers, once
/// per pass, and takes the fastest of 3 to 16 passes (at most about 0.8 s): what other processes
/// take from the memory meanwhile makes it slower, never faster. The workers write the buffer
/// first. buffer_bytes: a multiple of 8. Throws Error where the memory cannot be had.
ReadBandwidth measure_read_bandwidth(Workers& workers, uint64_t buffer_bytes);

}  // namespace hybrid
