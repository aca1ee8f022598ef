#pragma once
// The rates of this machine, kept between runs: `bench` writes them, `plan` reads them.
//
// A JSON file for each level and number of threads in the user's cache folder, rates-amx-16.json:
//   {"version": 1, "cpu": "...", "isa": "amx", "threads": 16, "nodes": 1,
//    "bandwidth_gbs": 180.2, "measured": "2026-11-21T19:50Z", "rates": [...]}
// placement/rates.h has the form of a rate. What was measured of other types stays in it.

#include <filesystem>
#include <string>
#include <vector>

#include "placement/rates.h"
#include "runtime/user_cache.h"
#include "tensor/simd_level.h"

namespace hybrid {

/// What rates depend on.
struct RatesKey {
  std::string cpu;
  SimdLevel isa = SimdLevel::scalar;
  uint32_t n_threads = 1;
  uint32_t n_nodes = 1;

  bool operator==(const RatesKey&) const = default;
};

/// Of this machine, at the level in force.
RatesKey rates_key(int n_threads);

struct StoredRates {
  RatesKey key;
  double bandwidth_bytes_per_s = 0;
  std::string measured;  // when, "2026-11-21T19:50Z"
  std::vector<MeasuredRate> rates;

  bool operator==(const StoredRates&) const = default;
};

/// "2026-11-21T19:50Z"
std::string time_now();

/// Where they lie; empty where there is no folder for them.
std::filesystem::path rates_path(const RatesKey& key);

Cached<StoredRates> find_rates(const RatesKey& key);

/// Writes them, with those of other kinds that a valid file of the same key holds. Returns the
/// path. Throws Error where it cannot be written.
std::filesystem::path store_rates(const StoredRates& rates);

}  // namespace hybrid
