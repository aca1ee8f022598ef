#pragma once
// Packed weights kept on disk: where, and writing, reading and checking them. The format is that of
// panel_cache_format.h. A file is believed only as far as its hashes and the model go: whatever
// bytes it has, reading it gives the panels of this very model or a reason why not.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "numa/workers.h"
#include "runtime/load_step.h"
#include "runtime/panel_cache_format.h"

namespace hybrid {

/// Where the cache of a model (of a split one: any part) is looked for, the best place first:
/// MODEL.panels beside the first part, and MODEL-HASH.panels in hybrid-run/ of the user's cache
/// folder ($XDG_CACHE_HOME, ~/.cache; HASH of the model's folder), for folders of others. Asks the
/// environment, not the disk.
std::vector<std::filesystem::path> panel_cache_paths(const std::filesystem::path& model);

/// The memory of packed weights: the panels of all, one behind the other, and their exponents.
/// Panels that are cut over memory nodes lie in pieces, which in this order are the same bytes.
struct PanelMemory {
  std::span<std::byte> panels = {};  // empty where there are pieces
  std::span<int8_t> exponents = {};

  struct Piece {
    uint64_t begin = 0;  // in the order of all
    std::span<std::byte> bytes;
  };
  std::vector<Piece> pieces = {};

  void add(std::span<std::byte> bytes) { pieces.push_back({n_bytes(), bytes}); }
  uint64_t n_bytes() const {
    return pieces.empty() ? panels.size() : pieces.back().begin + pieces.back().bytes.size();
  }
  /// Puts these bytes at `begin` in the order of all; there are pieces.
  void store(uint64_t begin, std::span<const std::byte> bytes) const;
};

struct PanelCacheStatus {
  enum class State { valid, absent, unusable };
  State state = State::valid;
  std::string reason = "";  // where it is unusable: "it is cut short: ..."
};

/// Fills `to` on all workers and checks what it reads on the way. Where the result is not valid,
/// `to` holds nothing of use.
PanelCacheStatus read_panel_cache(const std::filesystem::path& path, const GgufFile& model,
                                  const std::vector<const Weight*>& weights, const PanelMemory& to,
                                  Workers& workers, const LoadProgress& progress);

/// Reads and checks all of it, as read_panel_cache does.
PanelCacheStatus check_panel_cache(const std::filesystem::path& path, const GgufFile& model,
                                   const std::vector<const Weight*>& weights, Workers& workers,
                                   const LoadProgress& progress);

/// Writes a cache; the file appears whole or not at all. Throws Error (no permission, a full disk,
/// a model that changed meanwhile).
class PanelCacheWriter {
 public:
  /// Opens the first of `paths` that can be written to and takes the space on the disk: what cannot
  /// be written is known before anything is packed. The model must outlive the writer.
  PanelCacheWriter(const std::vector<std::filesystem::path>& paths, const GgufFile& model,
                   const std::vector<const Weight*>& weights);

  const std::filesystem::path& path() const { return file_.path(); }

  void write(const PanelMemory& from, Workers& workers, const LoadProgress& progress);

 private:
  const GgufFile& model_;
  PanelCacheHead head_;
  AtomicFile file_;
};

/// Deletes the caches of a model, and what an interrupted writer left. Returns what was there;
/// throws Error for what cannot be deleted. The model itself need not exist.
std::vector<std::filesystem::path> remove_panel_caches(const std::filesystem::path& model);

}  // namespace hybrid
