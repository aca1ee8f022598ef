#pragma once
// The bandwidth between this machine's nodes, kept between runs: `topology --measure` writes it,
// `topology` shows it, and shares of slices follow it. A JSON file in the user's cache folder,
// nodes.json:
//   {"version": 1, "cpu": "...", "nodes": [0, 1], "measured": "2026-11-21T19:50Z",
//    "all_local_gbs": 401.2, "pairs": [{"cpu_node": 0, "memory_node": 1, "gbs": 90.1}, ...]}

#include <filesystem>
#include <string>

#include "numa/node_bandwidth.h"
#include "runtime/user_cache.h"

namespace hybrid {

struct StoredNodeBandwidth {
  std::string cpu;
  NodeList nodes;        // of the machine
  std::string measured;  // when, "2026-11-21T19:50Z"
  NodeBandwidth bandwidth;

  bool operator==(const StoredNodeBandwidth&) const = default;
};

/// Where it lies; empty where there is no folder for it.
std::filesystem::path node_bandwidth_path();

/// That of a machine with this processor and these nodes.
Cached<StoredNodeBandwidth> find_node_bandwidth(const std::string& cpu, const NodeList& nodes);

/// Writes it whole. Returns the path. Throws Error where it cannot be written.
std::filesystem::path store_node_bandwidth(const StoredNodeBandwidth& stored);

}  // namespace hybrid
