#pragma once
// What `tune` found, kept for later runs of the same model on the same machine.
//
// A JSON file for each model in the user's cache folder, tuned-0123456789abcdef.json:
//   {"version": 1, "cpu": "...", "processors": 32, "nodes": 1, "numa": "distribute",
//    "devices": "", "isa": "amx", "model": "DeepSeek-V2-Lite", "measured": "2026-11-21T19:50Z",
//    "threads": 24, "threads-batch": 32, "ubatch-size": 1024,
//    "decode_tps": 21.3, "prefill_tps": 310.5}
// The name has a hash of the model's tensors: names, types and shapes, on which speed depends, not
// their bytes. A fine-tuned model of the same types shares the file.

#include <cstdint>
#include <filesystem>
#include <string>

#include "runtime/user_cache.h"
#include "tensor/gguf_file.h"

namespace hybrid {

/// What the settings hold for.
struct TunedKey {
  std::string cpu;
  uint32_t n_processors = 1;  // that the process may use
  uint32_t n_nodes = 1;
  std::string numa;     // the mode in force
  std::string devices;  // "cuda:0,cuda:1"; empty: the CPU alone
  std::string isa;      // the level in force
  uint64_t model = 0;   // tensors_hash()

  bool operator==(const TunedKey&) const = default;
};

struct TunedSettings {
  TunedKey key;
  std::string model_name;
  std::string measured;  // when, "2026-11-21T19:50Z"
  uint32_t n_threads = 1, n_threads_batch = 1;
  uint32_t n_ubatch = 512;
  double decode_tps = 0, prefill_tps = 0;

  bool operator==(const TunedSettings&) const = default;
};

/// Of the tensors' names, types and shapes, in their order.
uint64_t tensors_hash(const GgufFile& model);

/// Where the file lies; empty where there is no folder for it.
std::filesystem::path tuned_path(uint64_t model);

Cached<TunedSettings> find_tuned(const TunedKey& key);

/// Writes the file whole. Returns the path. Throws Error where it cannot be written.
std::filesystem::path store_tuned(const TunedSettings& settings);

}  // namespace hybrid
