#include "runtime/perplexity.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>

#include "base/error.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

/// Saved logits, [tokens][n_vocab].
class SavedLogits {
 public:
  SavedLogits(const std::string& path, uint64_t n_tokens, uint64_t n_vocab)
      : path_(path), in_(path, std::ios::binary), row_bytes_(n_vocab * sizeof(float)) {
    std::error_code error;
    const uint64_t n_bytes = std::filesystem::file_size(path, error);
    if (!in_ || error) {
      fail("{}: cannot open the base logits{}{}", printable(path), error ? ": " : "",
           error ? error.message() : "");
    }
    if (n_bytes != n_tokens * row_bytes_) {
      fail(
          "{}: expected {} bytes of logits ({} tokens), found {}; the text, --ctx and vocabulary "
          "must be the same",
          printable(path), n_tokens * row_bytes_, n_tokens, n_bytes);
    }
  }

  void read(uint64_t first, std::span<float> logits) {
    in_.seekg(static_cast<std::streamoff>(first * row_bytes_));
    in_.read(reinterpret_cast<char*>(logits.data()),
             static_cast<std::streamsize>(logits.size_bytes()));
    if (!in_) fail("{}: cannot read the base logits", printable(path_));
  }

 private:
  std::string path_;
  std::ifstream in_;
  uint64_t row_bytes_;
};

void print_result(const PerplexityResult& result, uint32_t window, bool with_kl) {
  print(
      fmt::format("tokens scored   {} in {} windows of {}\n"
                  "mean nll        {:.6f} +/- {:.6f}\n"
                  "perplexity      {:.4f} +/- {:.4f}\n",
                  result.nll.n, result.n_windows, window, result.nll.mean(),
                  result.nll.standard_error(), result.perplexity(), result.perplexity_error()));
  if (with_kl) {
    print(fmt::format("mean KL         {:.3e} +/- {:.1e}\n", result.kl.mean(),
                      result.kl.standard_error()));
  }
}

}  // namespace

void perplexity(const Options& options) {
  catch_signals();
  const std::string text = read_input(options.get("file"));
  TraceFile trace(options);
  Engine engine(engine_options(options, trace.trace()));
  const Tokenizer& tokenizer = engine.tokenizer();
  const std::vector<TokenId> tokens = tokenizer.encode(text, {.add_bos = tokenizer.wants_bos()});
  PerplexityParams params;
  params.window = static_cast<uint32_t>(options.get_integer("ctx"));
  params.stop = &stop_flag();
  if (tokens.size() < params.window) {
    fail("the text has {} tokens, a window needs {}; choose a longer text or a smaller --ctx",
         tokens.size(), params.window);
  }
  check_outputs(options, engine.model().file(), {"logits-out"}, {"file", "kl-base"});
  const uint64_t n_windows = tokens.size() / params.window;
  std::optional<SavedLogits> base;
  if (const auto path = options.find("kl-base")) {
    base.emplace(*path, n_windows * params.window, engine.model().config().n_vocab);
    params.base = [&](uint64_t first, std::span<float> logits) { base->read(first, logits); };
  }
  engine.place(params.window);
  Sequence sequence = engine.make_sequence(params.window);
  std::optional<OutputFile> logits_file;
  if (const auto path = options.find("logits-out")) {
    logits_file.emplace(*path);
    params.on_logits = [&](std::span<const float> logits) {
      logits_file->write(logits.data(), logits.size_bytes());
    };
  }
  engine.prepare();
  log_banner(options, engine, sequence);
  params.on_window = [&](const PerplexityResult& r) {
    log_detail(fmt::format("window {} of {}: perplexity so far {:.4f}", r.n_windows, n_windows,
                           r.perplexity()));
  };

  PerplexityResult result;
  if (!measure_perplexity(engine, sequence, tokens, params, result)) throw Interrupted{};
  if (logits_file) logits_file->close();
  trace.write();
  print_result(result, params.window, base.has_value());
}

}  // namespace hybrid::commands
