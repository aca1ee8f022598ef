#include "base/error.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

std::string prompt_text(const Options& options) {
  std::string text = input_text(options);
  // Editors end files with a newline that no one means to be part of the prompt.
  if (options.is_set("file") && text.ends_with('\n')) {
    text.pop_back();
    if (text.ends_with('\r')) text.pop_back();
  }
  return text;
}

std::string rate(uint32_t n_tokens, double seconds) {
  return n_tokens > 0 && seconds > 0 ? fmt::format("{:.1f} t/s", n_tokens / seconds) : "-";
}

void log_statistics(const GenerateResult& r) {
  const std::string reused =
      r.n_reused > 0 ? fmt::format(" ({} more reused)", r.n_reused) : std::string();
  log_info(fmt::format("prompt {} tokens{}, {}; generated {} tokens, {}; ended: {}", r.n_prompt,
                       reused, rate(r.n_prompt, r.prefill_seconds), r.n_generated,
                       rate(r.n_decode_steps, r.decode_seconds), name_of(r.finish)));
  for (const std::string& line :
       {lane_use_text(r.prefill_lanes, "prompt", 1, r.prefill_seconds),
        lane_use_text(r.decode_lanes, "a token", r.n_decode_steps, r.decode_seconds)}) {
    if (!line.empty()) log_info(line);
  }
}

}  // namespace

void run(const Options& options) {
  catch_signals();
  const std::string text = prompt_text(options);
  TraceFile trace(options);
  Engine engine(engine_options(options, trace.trace()));
  const Tokenizer& tokenizer = engine.tokenizer();
  const std::vector<TokenId> prompt = tokenizer.encode(
      text, {.add_bos = tokenizer.wants_bos(), .parse_special = options.get_toggle("special")});
  engine.check_prompt(prompt);
  check_outputs(options, engine.model().file(), {"cache-file"}, {"file"});

  engine.place();
  Sequence sequence = engine.make_sequence();
  CacheFile cache_file(options, sequence);
  engine.prepare();
  log_banner(options, engine, sequence);
  cache_file.log_restored();
  GenerateParams params;
  params.sampling = sampling_params(options);
  params.n_predict = options.get_integer("n-predict");
  params.stop = &stop_flag();
  cache_file.save_after([&] {
    const GenerateResult result =
        engine.generate(sequence, prompt, params, [](std::string_view piece) {
          print(piece);
          flush_stdout();
        });
    print("\n");
    flush_stdout();
    log_statistics(result);
    if (result.finish == FinishReason::interrupted) throw Interrupted{};
  });
  trace.write();
}

}  // namespace hybrid::commands
