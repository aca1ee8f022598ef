#pragma once
// GPUs that are played in the memory of the host: tables as the CUDA plugin's, whose launch
// functions are the kernels' own source, compiled for the host and run by the harness in
// tests/simt, and whose cuBLAS is BLAS's definition (tests/support/reference_blas.h). Instead of
// the plugin's as long as this lives.
//
// What is queued runs when somebody asks whether it is done, not before: pieces of different queues
// in an order by seed, each queue's in its own, as events have it. So memory that changes too early
// is seen, and queues that should wait and do not. Found, too: copies beyond an allocation, from
// memory that is not pinned or that nobody wrote; launches with another GPU current; and all that
// the harness reports of kernels.

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/cuda_tables.h"

namespace hybrid::test {

struct PlayedOptions {
  int n_gpus = 1;
  uint64_t memory_bytes = uint64_t{1} << 30;  // of each
  int n_multiprocessors = 4;
  int major = 9;
  uint32_t seed = 1;
  std::string missing_blas = "";  // why cuBLAS is not there; "": it is
};

class PlayedGpus {
 public:
  explicit PlayedGpus(const PlayedOptions& options = {});
  /// Fails the running test where something of the GPUs is left, or something was found.
  ~PlayedGpus();

  /// Launches so far, and those among them that are products of cuBLAS.
  uint64_t n_launches() const;
  uint64_t n_blas_products() const;
  /// This launch, counted from 0, is refused; or fails when it runs.
  void refuse_launch(uint64_t index);
  void fail_launch(uint64_t index);
  /// From here on nothing that is queued is ever done.
  void hang();

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace hybrid::test
