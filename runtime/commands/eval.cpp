#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <set>

#include "base/error.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

ExpertChoice read_choice(const std::string& path, const ModelConfig& config, uint32_t n_tokens) {
  const std::string bytes = read_input(path);
  ExpertChoice choice(config.n_moe_layers(), n_tokens, config.moe.n_used);
  if (bytes.size() != choice.ids.size() * sizeof(int32_t)) {
    fail("{}: expected {} bytes (int32 of {} MoE layers, {} tokens, {} experts used), found {}",
         printable(path), choice.ids.size() * sizeof(int32_t), choice.n_moe_layers, n_tokens,
         choice.n_used, bytes.size());
  }
  std::memcpy(choice.ids.data(), bytes.data(), bytes.size());
  for (const int32_t id : choice.ids) {
    if (id < 0 || static_cast<uint32_t>(id) >= config.moe.n_experts) {
      fail("{}: expert id {} is out of range: the model has experts 0 to {}", printable(path), id,
           config.moe.n_experts - 1);
    }
  }
  for (size_t i = 0; i < choice.ids.size(); i += choice.n_used) {
    const std::set<int32_t> distinct(
        choice.ids.begin() + static_cast<std::ptrdiff_t>(i),
        choice.ids.begin() + static_cast<std::ptrdiff_t>(i + choice.n_used));
    if (distinct.size() < choice.n_used) {
      fail("{}: expected {} different experts for each token, found one twice", printable(path),
           choice.n_used);
    }
  }
  return choice;
}

/// The most likely next tokens, a line each: id, probability, piece.
void print_best(const Tokenizer& tokenizer, std::span<const float> logits) {
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t n = std::min<size_t>(5, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n), order.end(),
                    [&](TokenId a, TokenId b) { return logits[a] > logits[b]; });
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - logits[order[0]]);
  print("most likely next tokens (id, probability, piece):\n");
  for (size_t i = 0; i < n; ++i) {
    const double p = std::exp(static_cast<double>(logits[order[i]]) - logits[order[0]]) / sum;
    print(fmt::format("{:8} {:.4f} {}\n", order[i], p, printable(tokenizer.piece(order[i], true))));
  }
}

}  // namespace

void eval(const Options& options) {
  if (options.is_set("tokens") == options.is_set("file")) {
    fail_usage("`eval` needs either --tokens IDS or -f FILE");
  }
  catch_signals();
  std::vector<TokenId> tokens;
  if (options.is_set("tokens")) tokens = parse_token_ids(options.get("tokens"), "--tokens");
  TraceFile trace(options);
  Engine engine(engine_options(options, trace.trace()));
  const ModelConfig& config = engine.model().config();
  if (options.is_set("file")) {
    tokens = engine.tokenizer().encode(read_input(options.get("file")),
                                       {.add_bos = engine.tokenizer().wants_bos()});
  }
  if (tokens.empty()) fail("there are no tokens to evaluate");
  engine.check_tokens(tokens);
  const auto n_tokens = static_cast<uint32_t>(tokens.size());

  std::optional<ExpertChoice> replay, record;
  if (options.is_set("experts-in")) {
    replay = read_choice(options.get("experts-in"), config, n_tokens);
  }
  check_outputs(options, engine.model().file(), {"logits-out", "experts-out"},
                {"file", "experts-in"});
  engine.place(n_tokens);
  Sequence sequence = engine.make_sequence(n_tokens);
  std::optional<OutputFile> logits_file, experts_file;
  if (const auto path = options.find("logits-out")) logits_file.emplace(*path);
  if (const auto path = options.find("experts-out")) {
    experts_file.emplace(*path);
    record.emplace(config.n_moe_layers(), n_tokens, config.moe.n_used);
  }
  engine.prepare();
  log_banner(options, engine, sequence);

  // In batches, so that only one batch of logits is in memory.
  const uint32_t step = engine.options().execution.n_batch;
  std::vector<float> logits;
  for (uint32_t done = 0; done < n_tokens; done += step) {
    Sequence::AppendArgs args;
    args.tokens = std::span(tokens).subspan(done, std::min(step, n_tokens - done));
    args.n_logit_rows = logits_file ? static_cast<uint32_t>(args.tokens.size()) : 1;
    logits.resize(uint64_t{args.n_logit_rows} * config.n_vocab);
    args.logits = logits.data();
    args.choice_offset = done;
    args.replay = replay ? &*replay : nullptr;
    args.record = record ? &*record : nullptr;
    args.stop = &stop_flag();
    if (!sequence.append(args)) throw Interrupted{};
    if (logits_file) logits_file->write(logits.data(), logits.size() * sizeof(float));
  }
  if (logits_file) logits_file->close();
  if (experts_file) {
    experts_file->write(record->ids.data(), record->ids.size() * sizeof(int32_t));
    experts_file->close();
  }
  trace.write();
  print_best(engine.tokenizer(), std::span(logits).last(config.n_vocab));
}

}  // namespace hybrid::commands
