#pragma once
// One sequence of tokens and its place in the cache.

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/model.h"
#include "runtime/sequence_plan.h"

namespace hybrid {

class Sequence {
 public:
  /// Takes the memory for n_ctx positions and for the micro-batch. The model must outlive it.
  /// Throws Error with the figures where the machine has not enough memory left.
  Sequence(const Model& model, uint32_t n_ctx, const ExecutionOptions& options);

  /// What it takes; the memory is taken by these numbers.
  const SequencePlan& plan() const { return plan_; }
  /// What its buffers really hold, without those that each thread keeps.
  uint64_t held_bytes() const { return lanes_.held_bytes(); }
  LaneUse lane_use() const { return lanes_.use(); }

  uint32_t n_ctx() const { return plan_.n_ctx; }
  uint32_t n_free() const { return n_ctx() - static_cast<uint32_t>(tokens_.size()); }
  const std::vector<TokenId>& tokens() const { return tokens_; }

  struct AppendArgs {
    std::span<const TokenId> tokens;  // at most n_free()
    uint32_t n_logit_rows = 0;        // logits are wanted for this many tokens at the end
    float* logits = nullptr;          // [n_logit_rows][n_vocab]
    uint32_t choice_offset = 0;       // of tokens[0] in the two below
    const ExpertChoice* replay = nullptr;
    ExpertChoice* record = nullptr;
    const std::atomic<bool>* stop = nullptr;
  };
  /// Runs the tokens through the model, in micro-batches, and keeps them. False where `stop` ended
  /// it; the micro-batches that were complete are kept. Throws Error where a logit is not finite:
  /// the file is damaged, or a kernel wrong.
  bool append(const AppendArgs& args);

  /// Forgets all but the first n tokens.
  void truncate(size_t n);

  /// Forgets everything and takes the first n tokens of another sequence of the same model and
  /// cache type, without computing them. n <= n_ctx().
  void copy_prefix(Sequence& from, size_t n);

  /// One sequence's part of a step that several take together.
  struct Part {
    Sequence* sequence = nullptr;
    std::span<const TokenId> tokens;  // at least one, at most n_free()
    float* logits = nullptr;          // [n_vocab] of the last token, or null
  };
  /// Runs the tokens of all parts, of different sequences of one model, through the model in one
  /// micro-batch, with the first one's threads and buffers: together no more tokens than its
  /// micro-batch, and none of the sequences with a longer context. As append() otherwise.
  static bool append_together(std::span<const Part> parts, const std::atomic<bool>* stop = nullptr);

  const Model& model() const { return model_; }
  SequenceCache& cache() { return cache_; }

  /// For who has put the rows of these tokens into cache(): they are what it holds from now on.
  void set_tokens(std::vector<TokenId> tokens);

  /// Which of the memory nodes' pieces their own threads did, in all steps so far.
  Workers::SliceCounts slice_counts() const;

  /// Whether the threads of decode have cores of their own, and why; for a person.
  std::string thread_placement() const { return decode_workers_->placement(); }

 private:
  /// The place of n tokens more.
  BatchSegment next_segment(size_t n) {
    return {&cache_, static_cast<uint32_t>(tokens_.size()), static_cast<uint32_t>(n)};
  }
  struct Chunk;
  /// The micro-batch of args' tokens from `first` on; token 0 goes to first_position.
  Chunk chunk_of(const AppendArgs& args, uint32_t first_position, uint32_t first);
  /// Micro-batches, with this sequence's threads and buffers. Returns how many are done.
  uint32_t run(std::span<const ForwardArgs> batches);
  /// Takes tokens that have been run; throws Error where their logits are not finite.
  void keep(std::span<const TokenId> tokens, std::span<const float> logits);

  const Model& model_;
  Trace* trace_;
  SequencePlan plan_;
  SequenceCache cache_;
  Lanes lanes_;
  std::unique_ptr<Workers> decode_workers_;
  std::unique_ptr<Workers> batch_workers_;  // where their number differs
  std::vector<TokenId> tokens_;
};

}  // namespace hybrid
