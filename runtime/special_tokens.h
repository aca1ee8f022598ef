#pragma once
// Finds tokens that are written out in text, such as <|im_end|>.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hybrid {

class SpecialTokens {
 public:
  SpecialTokens() = default;
  /// (text, id) pairs. Empty texts and texts that are not valid UTF-8 are left out; of equal texts
  /// the first counts.
  explicit SpecialTokens(std::vector<std::pair<std::string, int32_t>> tokens);

  struct Found {
    size_t begin;
    size_t length;  // 0 where nothing was found
    int32_t id;
  };
  /// The first place at or after `from` where a token is written; of several there, the longest.
  /// In valid UTF-8 a find begins and ends between characters.
  Found find(std::string_view text, size_t from) const;

 private:
  Found longest_at(std::string_view text, size_t at) const;

  std::vector<std::pair<std::string, int32_t>> tokens_;  // sorted by text
  std::string first_bytes_;                              // each once
};

}  // namespace hybrid
