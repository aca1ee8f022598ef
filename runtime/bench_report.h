#pragma once
// The rows of `bench`: as a Markdown table for people, as JSON lines or CSV for programs.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/bench.h"

namespace hybrid {

/// A test, the settings it ran with, and what it gave. Switches are 0 or 1.
struct BenchRow {
  std::string model;        // its name, printable
  uint64_t size_bytes = 0;  // of all tensors
  uint64_t n_params = 0;
  std::string device = "cpu";
  std::string isa;
  int n_threads = 1;       // as asked for
  int n_threads_used = 1;  // that there are processors for
  uint32_t n_batch = 0;
  uint32_t n_ubatch = 0;
  int mla = 0;
  int fa = 0;
  double amb = 0;  // MiB; 0: no limit
  int rtr = 0;
  int fmoe = 0;
  std::string ctk;
  BenchTest test;
  BenchResult result;
  double peak_gb_per_s = 0;  // the measured bandwidth of the memory
  double predicted_tps = 0;  // from rates measured at the start; 0: unknown
};

/// An object with the members of BenchRow, and of the test and result: test, n_prompt, n_gen,
/// n_depth, tps_mean, tps_stddev, tps_samples, gbps (bytes_per_token times tps_mean, in 1e9),
/// peak_gbps, pct_of_peak_bandwidth, predicted_tps (null: unknown). Numbers are numbers in base
/// units.
nlohmann::ordered_json bench_json(const BenchRow& row);

enum class BenchFormat { md, csv, jsonl };

std::optional<BenchFormat> find_bench_format(std::string_view name);

class BenchReport {
 public:
  /// Of the settings, the table shows isa, threads and those named in `shown` (keys of bench_json,
  /// in its order): n_batch, n_ubatch, mla, fa, amb, ctk.
  BenchReport(BenchFormat format, std::vector<std::string> shown);

  /// The lines of a row, each ended; the first call begins with the header, where the format has
  /// one. CSV has the keys of bench_json as columns; samples stand in one cell, separated by ';'.
  std::string lines(const BenchRow& row);

 private:
  BenchFormat format_;
  std::vector<std::string> shown_;
  std::vector<size_t> widths_;  // of the table's columns; empty until the header is written
  bool has_header_ = false;
};

}  // namespace hybrid
