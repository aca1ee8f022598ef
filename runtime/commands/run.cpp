#include "base/error.h"
#include "base/units.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

std::string prompt_text(const Options& options) {
  std::string text = input_text(options);
  // Editors end files with a newline that no one means to be part of the prompt.
  if (options.is_set("file") && text.ends_with('\n')) text.pop_back();
  return text;
}

double rate(uint32_t n_tokens, double seconds) { return seconds > 0 ? n_tokens / seconds : 0; }

void log_statistics(const GenerateResult& r) {
  log_info(fmt::format("prompt {} tokens, {:.1f} t/s; generated {} tokens, {:.1f} t/s; ended: {}",
                       r.n_prompt, rate(r.n_prompt, r.prefill_seconds), r.n_generated,
                       rate(r.n_generated, r.decode_seconds), name_of(r.finish)));
}

}  // namespace

void run(const Options& options) {
  const std::string text = prompt_text(options);
  EngineOptions setup = engine_options(options);
  setup.n_ctx = static_cast<uint32_t>(options.find_integer("ctx-size").value_or(0));
  const Engine engine(setup);
  const Tokenizer& tokenizer = engine.tokenizer();
  const std::vector<TokenId> prompt = tokenizer.encode(
      text, {.add_bos = tokenizer.wants_bos(), .parse_special = options.get_toggle("special")});
  engine.check_prompt(prompt);

  log_banner(engine);
  Sequence sequence = engine.make_sequence();
  GenerateParams params;
  params.sampling = sampling_params(options);
  params.n_predict = options.get_integer("n-predict");
  params.stop = &stop_flag();
  const GenerateResult result =
      engine.generate(sequence, prompt, params, [](std::string_view piece) {
        print(piece);
        flush_stdout();
      });
  print("\n");
  flush_stdout();
  log_statistics(result);
  if (result.finish == FinishReason::interrupted) throw Interrupted{};
}

}  // namespace hybrid::commands
