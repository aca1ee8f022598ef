// What the CUDA kernels and the link to the host reach on the first GPU, as a Markdown table.

#include <cstdio>
#include <exception>

#include "tests/cuda_gpu/bench/measure.h"

using namespace hybrid::gpu;

int main() {
  const std::string why = why_none();
  if (!why.empty()) {
    std::printf("bench_cuda: there is no GPU here: %s\n", why.c_str());
    return 1;
  }
  try {
    Machine on = machine();
    std::printf(
        "%s, %u multiprocessors, %.0f MiB of L2. Medians of 7 series; nothing is in L2 when it is "
        "used.\n\n",
        title().c_str(), on.n_multiprocessors, static_cast<double>(on.l2_bytes) / (1 << 20));
    print_head();
    on.copy_gbs = measure_copy(on);
    bench_memory(on);
    bench_products(on);
    bench_experts(on);
    bench_attention(on);
    bench_blas(on);
    bench_host_link(on);
  } catch (const std::exception& error) {
    std::printf("\nbench_cuda: %s\n", error.what());
    return 1;
  }
  if (n_not_measured() > 0) {
    std::printf("\nbench_cuda: %d rows were not measured\n", n_not_measured());
    return 1;
  }
  return 0;
}
