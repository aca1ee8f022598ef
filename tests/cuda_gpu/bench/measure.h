#pragma once
// How bench_cuda measures, and its table.

#include <cstdint>
#include <exception>
#include <functional>
#include <string>

#include "tests/cuda_gpu/gpu.h"

namespace hybrid::gpu {

struct Machine {
  uint64_t l2_bytes;
  uint32_t n_multiprocessors;
  double copy_gbs = 0;  // measured first: bytes read and written
};
Machine machine();

/// The GPU's time of one call of launch(i), in microseconds: events around a series of calls that
/// are queued behind a kernel that waits, so that launching is not measured; the median of 7 such
/// series. i goes on counting: use it to take another working set each time.
double median_us(const std::function<CudaStatus(uint64_t i)>& launch);

/// The median of n times, each of one call of body() on the host, in microseconds.
double median_host_us(int n, const std::function<void()>& body);

/// So many sets of n_bytes each that one is out of L2 when it is used again.
uint64_t n_sets(const Machine& on, uint64_t n_bytes);

/// A row of the table; 0 where a figure means nothing.
struct Row {
  std::string what, shape;
  double us = 0;
  double gbs = 0;            // 1e9 bytes a second
  double copy_fraction = 0;  // of the copy bandwidth
  double tflops = 0;         // 1e12
};
void print_head();
void print(const Row& row);
/// Prints what body() gives; where it throws Error (memory that is missing), a row that says why.
void print_or_say_why(const std::string& what, const std::string& shape,
                      const std::function<Row()>& body);
/// A row for what was not measured.
void say_why(const std::string& what, const std::string& shape, const std::exception& error);
/// How many such rows there were.
int n_not_measured();

// The parts of the benchmark.
double measure_copy(const Machine& on);
void bench_memory(const Machine& on);
void bench_products(const Machine& on);
void bench_experts(const Machine& on);
void bench_attention(const Machine& on);
void bench_blas(const Machine& on);
void bench_host_link(const Machine& on);

}  // namespace hybrid::gpu
