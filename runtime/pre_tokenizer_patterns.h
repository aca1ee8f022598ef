#pragma once
// The splitting rules of the known byte-level BPE formats, as their tokenizer files state them.

#include <string>
#include <string_view>
#include <vector>

namespace hybrid {

/// One pre-tokenizer. The patterns run one after another, each on every piece the one before left:
/// a match becomes a piece, and so does the text between two matches. Inside a pattern `\s` and
/// `\S` mean the Unicode property White_Space, and `\p{Han}` the script proper; PCRE2 reads both
/// differently (it counts U+180E as space, and takes script extensions), so they are rewritten
/// before compilation.
struct PreTokenizerRules {
  std::string_view name;                  // as in "tokenizer.ggml.pre"
  std::vector<std::string_view> aliases;  // other names of the same rules
  std::vector<std::string_view> patterns;
  bool takes_whole_words =
      false;              // a piece that is a token of the vocabulary is not merged up to it
  bool adds_bos = false;  // what holds where the file does not say
};

/// All of them, in the order in which errors list them.
const std::vector<PreTokenizerRules>& pre_tokenizer_rules();

}  // namespace hybrid
