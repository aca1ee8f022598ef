#pragma once
// Cuts text into the pieces within which byte-level BPE may merge. Each vocabulary was made with
// its own rule, which the file names in "tokenizer.ggml.pre"; with another rule the model sees
// tokens it was never trained on.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hybrid {

class PreTokenizer {
 public:
  /// Throws Error for an unknown name; the message lists the known ones.
  static PreTokenizer by_name(std::string_view name);
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;

  /// The pieces in order: none is empty, and together they are `text`, which they point into. Time
  /// is linear in the text. Throws Error where the text is not valid UTF-8 (says at which byte).
  /// May be called from several threads at once.
  std::vector<std::string_view> split(std::string_view text) const;

  /// As it was asked for (an alias stays an alias).
  const std::string& name() const;
  /// Whether a piece that is a token of the vocabulary stands for itself, whatever the merges say.
  bool takes_whole_words() const;
  /// Whether such vocabularies begin a text with BOS unless the file says otherwise.
  bool adds_bos() const;

 private:
  struct State;
  explicit PreTokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace hybrid
