#include "runtime/perplexity.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>

#include "base/error.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

/// Saved logits [windows][window][n_vocab], read window by window.
class SavedLogits {
 public:
  SavedLogits(const std::string& path, uint64_t n_windows, uint64_t window_bytes)
      : path_(path), in_(path, std::ios::binary), window_bytes_(window_bytes) {
    std::error_code error;
    const uint64_t n_bytes = std::filesystem::file_size(path, error);
    if (!in_ || error) fail("{}: cannot open the base logits", printable(path));
    if (n_bytes != n_windows * window_bytes) {
      fail(
          "{}: expected {} bytes of logits ({} windows), found {}; the text, --ctx and vocabulary "
          "must be the same",
          printable(path), n_windows * window_bytes, n_windows, n_bytes);
    }
  }

  void read(uint64_t window, std::span<float> logits) {
    in_.seekg(static_cast<std::streamoff>(window * window_bytes_));
    in_.read(reinterpret_cast<char*>(logits.data()), static_cast<std::streamsize>(window_bytes_));
    if (!in_) fail("{}: cannot read the base logits", printable(path_));
  }

 private:
  std::string path_;
  std::ifstream in_;
  uint64_t window_bytes_;
};

}  // namespace

void perplexity(const Options& options) {
  const std::string text = read_file(options.get("file"));
  const Engine engine(engine_options(options));
  const Tokenizer& tokenizer = engine.tokenizer();
  const std::vector<TokenId> tokens = tokenizer.encode(text, {.add_bos = tokenizer.wants_bos()});
  PerplexityParams params;
  params.window = static_cast<uint32_t>(options.get_integer("ctx"));
  params.stop = &stop_flag();
  const uint64_t window_bytes =
      uint64_t{params.window} * engine.model().config().n_vocab * sizeof(float);
  std::optional<SavedLogits> base;
  std::optional<OutputFile> logits_file;
  if (tokens.size() >= params.window) {
    if (const auto path = options.find("kl-base")) {
      base.emplace(*path, tokens.size() / params.window, window_bytes);
      params.base = [&](uint64_t w, std::span<float> logits) { base->read(w, logits); };
    }
    if (const auto path = options.find("logits-out")) {
      logits_file.emplace(*path);
      params.on_logits = [&](std::span<const float> logits) {
        logits_file->write(logits.data(), logits.size_bytes());
      };
    }
    log_banner(engine);
  }
  params.on_window = [&](const PerplexityResult& r) {
    log_detail(fmt::format("window {} of {}: perplexity so far {:.4f}", r.n_windows,
                           tokens.size() / params.window, r.perplexity()));
  };

  PerplexityResult result;
  if (!measure_perplexity(engine, tokens, params, result)) throw Interrupted{};
  if (logits_file) logits_file->close();
  print(
      fmt::format("tokens scored   {} in {} windows of {}\n"
                  "mean nll        {:.6f} +/- {:.6f}\n"
                  "perplexity      {:.4f} +/- {:.4f}\n",
                  result.nll.n, result.n_windows, params.window, result.nll.mean(),
                  result.nll.standard_error(), result.perplexity(), result.perplexity_error()));
  if (base) {
    print(fmt::format("mean KL         {:.3e} +/- {:.1e}\n", result.kl.mean(),
                      result.kl.standard_error()));
  }
}

}  // namespace hybrid::commands
