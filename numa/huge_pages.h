#pragma once
// Whether this process gets huge pages, and what to do where it does not.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace hybrid {

struct HugePageState {
  std::string mode;                 // of transparent ones: "always", "madvise", "never"; "" unknown
  std::string defrag;               // when the kernel makes room for one: "madvise", ...
  bool is_off_for_process = false;  // by prctl, as some launchers and containers do
  uint64_t page_bytes = 0;          // 0 where the kernel has none

  bool can_be_had() const {
    return page_bytes > 0 && !is_off_for_process && (mode == "always" || mode == "madvise");
  }
  /// Why not, with the remedy, as a sentence's second half; "" where they can be had.
  std::string why_not() const;
};

inline constexpr const char* kHugePageFolder = "/sys/kernel/mm/transparent_hugepage";

HugePageState read_huge_page_state(const std::filesystem::path& folder = kHugePageFolder);

/// The choice in brackets: "always [madvise] never" gives "madvise"; "" where there is none.
std::string chosen_word(std::string_view text);

}  // namespace hybrid
