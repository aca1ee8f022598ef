#include "experts/ffn_jobs.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "base/rounding.h"
#include "tensor/matmul.h"
#include "tensor/panel_matmul.h"
#include "tensor/row_ops.h"
#include "tensor/simd_level.h"
#include "tensor/tile_sums.h"

namespace hybrid {
namespace {

/// Output rows that are computed together: two panels, and the columns of one group of the next
/// product's activations.
constexpr uint64_t kUnitRows = 32;
constexpr uint64_t kUnitPanels = kUnitRows / kPanelRows;
static_assert(kUnitRows == HiddenRows::kGroupCols && kUnitRows == 2 * kPanelRows &&
              kCutRows % kUnitRows == 0);

/// Rows of gate and up whose products lie beside each other as floats, until they are one.
constexpr uint64_t kSpanRows = 256;

uint64_t n_units(uint64_t n_rows) { return divide_up(n_rows, kUnitRows); }

/// Rows [begin, end) of one job.
struct JobRows {
  const FfnJob& job;
  uint64_t index;
  uint64_t begin, end;

  uint64_t first_panel() const { return begin / kPanelRows; }
  uint64_t end_panel() const { return divide_up(end, kPanelRows); }
};

class Runner {
 public:
  Runner(const FfnArgs& args, FfnScratch& scratch, Workers& workers)
      : args_(args),
        first_(args.jobs.front()),
        s_(scratch),
        workers_(workers),
        n_tokens_(args.input.n_tokens()),
        n_embd_(first_.gate.n_cols()),
        n_ff_(first_.gate.n_rows()),
        in_form_(input_form(first_.gate.type(), n_tokens_, args.input.precision())),
        up_form_(input_form(first_.up.type(), n_tokens_, args.input.precision())),
        out_form_(input_form(first_.down.type(), n_tokens_, Precision::fine)) {
    HYBRID_CHECK(args.input.precision() == Precision::normal || !has(InputForm::tiles));
    HYBRID_CHECK(n_embd_ == args.input.n_cols() && first_.up.n_rows() == n_ff_);
    HYBRID_CHECK(first_.down.n_cols() == n_ff_ && first_.down.n_rows() == n_embd_);
  }

  void run() {
    place_jobs();
    args_.input.prepare(in_form_, workers_);
    args_.input.prepare(up_form_, workers_);
    gather();
    share_out(first_.gate.is_cut() ? &FfnJob::gate : &FfnJob::up, n_ff_, s_.hidden.step_cols(),
              [&](const JobRows& rows) { gate_and_up(rows); });
    share_out(&FfnJob::down, n_embd_, kUnitRows, [&](const JobRows& rows) { down(rows); });
  }

 private:
  bool has(InputForm form) const { return in_form_ == form || up_form_ == form; }
  bool with_tiles() const { return has(InputForm::tiles) || out_form_ == InputForm::tiles; }
  uint64_t n_slots() const { return args_.jobs.back().first_slot + args_.jobs.back().n_slots; }
  uint32_t token_of(uint64_t slot) const {
    return args_.slot_tokens.empty() ? static_cast<uint32_t>(slot) : args_.slot_tokens[slot];
  }

  /// Where the rows of each job lie in the hidden and gathered buffers: on whole tiles, if any.
  void place_jobs() {
    s_.first_row.resize(args_.jobs.size() + 1);
    uint64_t row = 0;
    for (size_t j = 0; j < args_.jobs.size(); ++j) {
      s_.first_row[j] = static_cast<uint32_t>(row);
      row += args_.jobs[j].n_slots;
      if (with_tiles()) row = n_token_tiles(row) * kTileTokens;
    }
    s_.first_row.back() = static_cast<uint32_t>(row);
    s_.hidden.set(out_form_, Precision::fine, row, n_ff_);
  }

  /// Brings the input rows of each job together.
  void gather() {
    if (is_in_blocks(in_form_) || is_in_blocks(up_form_)) {
      const ByteRows all = args_.input.byte_rows();
      const auto parts = static_cast<uint64_t>(all.n_parts);
      if (s_.blocks.size() < n_slots() * parts) s_.blocks.resize(n_slots() * parts);
      for (uint64_t i = 0; i < n_slots(); ++i) {
        std::copy_n(all.part(token_of(i), 1).rows, parts, s_.blocks.data() + i * parts);
      }
    }
    if (args_.slot_tokens.empty()) return;
    if (has(InputForm::floats) && has(InputForm::tiles)) {
      fail("gate and up of types {} and {} together are not supported", name_of(first_.gate.type()),
           name_of(first_.up.type()));
    }
    if (has(InputForm::floats)) {
      take(n_slots() * n_embd_ * sizeof(float));
      auto* to = reinterpret_cast<float*>(s_.gathered.data());
      workers_.parallel_for(n_slots(), 8, [&](uint64_t begin, uint64_t end) {
        for (uint64_t i = begin; i < end; ++i) {
          std::copy_n(args_.input.x() + token_of(i) * n_embd_, n_embd_, to + i * n_embd_);
        }
      });
    }
    if (has(InputForm::tiles)) gather_tiles();
  }

  void gather_tiles() {
    take(tiles_bytes(s_.first_row.back(), n_embd_));
    workers_.parallel_for(args_.jobs.size(), 1, [&](uint64_t begin, uint64_t end) {
      for (uint64_t j = begin; j < end; ++j) {
        const TokenTiles places = tiles_of(args_.jobs[j]);
        for (uint64_t i = 0; i < places.n_places(); ++i) {
          const uint64_t row = s_.first_row[j] + places.row(i);
          if (i < places.n_tokens()) {
            copy_tile_row(token_of(args_.jobs[j].first_slot + i), row);
          } else {
            clear_tile_row(n_embd_, s_.gathered.data(), row);
          }
        }
      }
    });
  }

  void copy_tile_row(uint64_t token, uint64_t row) {
    auto* input = const_cast<std::byte*>(args_.input.tile_rows().tiles);  // only read
    const uint64_t from = TokenTiles(n_tokens_).row(token);
    for (uint64_t g = 0; g < n_tile_groups(n_embd_); ++g) {
      std::memcpy(tile_row(s_.gathered.data(), n_embd_, row, g), tile_row(input, n_embd_, from, g),
                  64);
    }
  }

  void take(uint64_t n_bytes) {
    if (s_.gathered.n_bytes() < n_bytes) s_.gathered = HugeBuffer(n_bytes);
  }

  const float* input_floats(const FfnJob& job) const {
    if (args_.slot_tokens.empty()) return args_.input.x() + job.first_slot * n_embd_;
    return reinterpret_cast<const float*>(s_.gathered.data()) + job.first_slot * n_embd_;
  }
  TileRows input_tiles(uint64_t index) const {
    const bool in_order = args_.slot_tokens.empty();
    const TokenTiles places = tiles_of(args_.jobs[index]);
    const TileRows all{in_order ? args_.input.tile_rows().tiles : s_.gathered.data(), nullptr, 0,
                       places.per_tile()};
    return all.part(s_.first_row[index] / kTileTokens, places.n_tiles(), n_embd_);
  }
  static TokenTiles tiles_of(const FfnJob& job) { return TokenTiles(job.n_slots); }
  /// The hidden row of a job's slot.
  uint64_t hidden_row(const JobRows& rows, uint64_t slot) const {
    const bool in_tiles = out_form_ == InputForm::tiles;
    return s_.first_row[rows.index] + (in_tiles ? tiles_of(rows.job).row(slot) : slot);
  }

  /// Units that a thread takes together where there are several tokens. Who begins a piece brings
  /// the job's tokens into a cache of its own. That counts where few tokens meet each weight, so
  /// there a piece is a whole job, unless threads would end at different times for it. Where many
  /// tokens meet the weights in several rounds, longer pieces are no sure gain.
  uint64_t piece_units(uint64_t per_job) const {
    constexpr uint64_t kUnits = 16, kFewTokens = 32, kPiecesPerThread = 32;
    const uint64_t n_jobs = args_.jobs.size();
    if (!with_tiles() || n_slots() > kFewTokens * n_jobs || per_job <= kUnits) return kUnits;
    const auto n_pieces = kPiecesPerThread * static_cast<uint64_t>(workers_.n_threads());
    return std::clamp(per_job * n_jobs / n_pieces, kUnits, per_job);
  }

  /// All jobs' output rows as one range of units; body(JobRows) for pieces of it, which begin at
  /// multiples of `step` rows. With a single token each thread goes along memory; with more, pieces
  /// go to whoever is free. Of a weight that is cut over memory nodes, each slice's rows go to its
  /// own threads.
  template <class Body>
  void share_out(Weight FfnJob::*weight, uint64_t n_rows, uint64_t step, const Body& body) {
    HYBRID_CHECK(n_tokens_ > 1 || step == kUnitRows);
    if ((first_.*weight).is_cut()) return share_out_slices(weight, n_rows, step, body);
    const uint64_t per_job = round_up(n_units(n_rows), step / kUnitRows);
    const uint64_t n = per_job * args_.jobs.size();
    const auto piece = [&](uint64_t begin, uint64_t end) {
      while (begin < end) {
        const uint64_t job = begin / per_job;
        const uint64_t last = std::min(end, (job + 1) * per_job);
        const uint64_t row = (begin - job * per_job) * kUnitRows;
        const uint64_t end_row = std::min(n_rows, row + (last - begin) * kUnitRows);
        if (row < end_row) body(JobRows{args_.jobs[job], job, row, end_row});
        begin = last;
      }
    };
    if (n_tokens_ == 1) {
      workers_.parallel_shares(n, 1, piece);
    } else {
      workers_.parallel_for(n, piece_units(per_job), piece);
    }
  }

  /// Every slice has units of its own of each job, counted through from job to job. Rows that a
  /// step keeps together are those of the slice that their first one is of.
  template <class Body>
  void share_out_slices(Weight FfnJob::*weight, uint64_t n_rows, uint64_t step, const Body& body) {
    const uint64_t n_slices = (first_.*weight).n_runs;
    const auto units_of = [&](const FfnJob& job, uint64_t slice) {
      const IndexRange panels = (job.*weight).run(slice);
      const uint64_t step_units = step / kUnitRows;
      return IndexRange{round_up(divide_up(panels.begin, kUnitPanels), step_units),
                        round_up(divide_up(panels.end, kUnitPanels), step_units)};
    };
    std::array<IndexRange, Workers::kMaxSlices> ranges{};
    HYBRID_CHECK(n_slices <= ranges.size());
    for (uint64_t slice = 0; slice < n_slices; ++slice) {
      for (const FfnJob& job : args_.jobs) {
        const IndexRange units = units_of(job, slice);
        ranges[slice].end += units.end - units.begin;
      }
    }
    const auto piece = [&](uint64_t slice, uint64_t begin, uint64_t end) {
      uint64_t first = 0;  // of the job's units
      for (uint64_t job = 0; first < end; ++job) {
        const IndexRange units = units_of(args_.jobs[job], slice);
        const uint64_t last = first + units.end - units.begin;
        if (begin < last) {
          const uint64_t from = units.begin + std::max(begin, first) - first;
          const uint64_t to = units.begin + std::min(end, last) - first;
          body(JobRows{args_.jobs[job], job, from * kUnitRows, std::min(n_rows, to * kUnitRows)});
        }
        first = last;
      }
    };
    const uint64_t grain = n_tokens_ == 1 ? 1 : piece_units(divide_up(n_units(n_rows), n_slices));
    workers_.parallel_slices({ranges.data(), n_slices}, grain, piece);
  }

  // ---- gate and up ----

  void gate_and_up(const JobRows& rows) {
    const FfnJob& job = rows.job;
#if defined(__x86_64__)
    if (in_form_ == InputForm::tiles && out_form_ == InputForm::tiles &&
        job.gate.type() == job.up.type()) {
      return gated_tiles(rows);
    }
#endif
    if (job.n_slots == 1) return gated_single(rows);
    for (uint64_t row = rows.begin; row < rows.end; row += kSpanRows) {
      gated_span({job, rows.index, row, std::min(rows.end, row + kSpanRows)});
    }
  }

#if defined(__x86_64__)
  void gated_tiles(const JobRows& rows) {
    std::byte* hidden = s_.hidden.tiles(s_.first_row[rows.index]);
    std::byte* rest = s_.hidden.rest(s_.first_row[rows.index]);
    // The last 16 columns of an odd number of panels.
    if (rows.end == n_ff_ && (n_ff_ - 1) % kTileCols < kPanelRows) {
      for (uint64_t t = 0; t < tiles_of(rows.job).n_tiles() * kTileTokens; ++t) {
        std::memset(tile_row(hidden, n_ff_, t, n_ff_ / kTileCols), 0, 64);
        std::memset(tile_row(rest, n_ff_, t, n_ff_ / kTileCols), 0, 64);
      }
    }
    const auto store = [&](const Bf16Product::Sums& sums) {
      store_gated_tiles(sums, n_ff_, hidden, rest);
    };
    multiply_tiles(rows.job.gate, rows.job.up, input_tiles(rows.index), rows.first_panel(),
                   rows.end_panel(), store);
  }
#endif

  /// One token, any number of rows.
  void gated_single(const JobRows& rows) {
    constexpr uint64_t kRows = 512;
    alignas(64) float gate[kRows], up[kRows];
    const RowOps ops = row_ops();
    for (uint64_t row = rows.begin; row < rows.end; row += kRows) {
      const JobRows part{rows.job, rows.index, row, std::min(rows.end, row + kRows)};
      const uint64_t n = part.end - part.begin;
      gate_and_up_products(part, gate, up);
      ops.silu_mul(gate, up, n);
      s_.hidden.store(hidden_row(rows, 0), row, gate, n);
    }
  }

  void gate_and_up_products(const JobRows& rows, float* gate, float* up) {
    const FfnJob& job = rows.job;
    if (in_form_ == InputForm::bytes && job.gate.type() == job.up.type()) {
      const ByteRows x{s_.blocks.data(), n_parts(args_.input.precision()), 0};
      // Where both are cut, they are cut alike.
      return for_runs(job.gate.is_cut() ? job.gate : job.up, rows, [&](const JobRows& part) {
        const uint64_t at = part.begin - rows.begin;
        multiply_bytes(job.gate, job.up, x.part(job.first_slot, 1), gate + at, up + at,
                       part.first_panel(), part.end_panel());
      });
    }
    span_product(job.gate, in_form_, rows, 0, 1, gate, rows.end - rows.begin);
    span_product(job.up, up_form_, rows, 0, 1, up, rows.end - rows.begin);
  }

  /// One span by way of floats, a few tokens at a time.
  void gated_span(const JobRows& rows) {
    constexpr uint64_t kTiles = 3, kTokens = kTiles * kTileTokens;
    alignas(64) float gate[kTokens][kSpanRows], up[kTokens][kSpanRows];
    const uint64_t n = rows.end - rows.begin;
    const RowOps ops = row_ops();
    const uint64_t step = kTiles * (with_tiles() ? tiles_of(rows.job).per_tile() : kTileTokens);
    for (uint64_t slot = 0; slot < rows.job.n_slots; slot += step) {
      const uint64_t n_slots = std::min(step, rows.job.n_slots - slot);
      span_product(rows.job.gate, in_form_, rows, slot, n_slots, gate[0], kSpanRows);
      span_product(rows.job.up, up_form_, rows, slot, n_slots, up[0], kSpanRows);
      for (uint64_t i = 0; i < n_slots; ++i) {
        ops.silu_mul(gate[i], up[i], n);
        s_.hidden.store(hidden_row(rows, slot + i), rows.begin, gate[i], n);
      }
    }
  }

  /// Calls body for the rows that lie in one memory: for all of them where the weight is not cut.
  template <class Body>
  static void for_runs(const Weight& w, const JobRows& rows, const Body& body) {
    if (!w.is_cut()) return body(rows);
    for (uint64_t slice = 0; slice < w.n_runs; ++slice) {
      const IndexRange panels = w.run(slice);
      const uint64_t begin = std::max(rows.begin, panels.begin * kPanelRows);
      const uint64_t end = std::min(rows.end, panels.end * kPanelRows);
      if (begin < end) body(JobRows{rows.job, rows.index, begin, end});
    }
  }

  /// y[i * stride + r] = rows (from an even panel on) times the inputs of slots [slot, slot + n) of
  /// the job.
  void span_product(const Weight& w, InputForm form, const JobRows& rows, uint64_t slot, uint64_t n,
                    float* y, uint64_t stride) {
    for_runs(w, rows, [&](const JobRows& part) {
      run_product(w, form, part, slot, n, y + (part.begin - rows.begin), stride);
    });
  }
  void run_product(const Weight& w, InputForm form, const JobRows& rows, uint64_t slot, uint64_t n,
                   float* y, uint64_t stride) {
    const uint64_t begin = rows.first_panel(), end = rows.end_panel();
    if (is_in_blocks(form)) {
      const ByteRows x{s_.blocks.data(), n_parts(args_.input.precision()), 0,
                       form == InputForm::words};
      multiply_bytes(w, x.part(rows.job.first_slot + slot, n), y, stride, begin, end);
    } else if (form == InputForm::floats) {
      const float* x = input_floats(rows.job) + slot * n_embd_;
      float_rows(w, x, n, rows.begin, rows.end, y, stride);
    } else {
#if defined(__x86_64__)
      const TileRows all = input_tiles(rows.index);
      const TileRows x = all.part(slot / all.per_tile, divide_up(n, all.per_tile), n_embd_);
      const auto store = [&](const Bf16Product::Sums& s) {
        Bf16Product::Sums at = s;
        at.pair -= begin / 2;
        store_sums(at, n, rows.end - rows.begin, y, stride);
      };
      multiply_tiles(w, {}, x, begin / 2, (end + 1) / 2, store);
#endif
    }
  }

  /// y[i * stride + r - begin] for rows [begin, end) of w and n rows of x.
  static void float_rows(const Weight& w, const float* x, uint64_t n, uint64_t begin, uint64_t end,
                         float* y, uint64_t stride) {
    if (simd_level() != SimdLevel::scalar && w.type() != DType::f32) {
      return multiply_floats(w, x, n, y, stride, begin / kPanelRows, divide_up(end, kPanelRows));
    }
    const TensorView part = w.rows.rows(begin, end - begin);
    matmul_rows({part, x, w.n_cols(), y, stride, n}, 0, end - begin);
  }

  // ---- down ----

  void down(const JobRows& rows) {
    const FfnJob& job = rows.job;
    const uint64_t first_row = s_.first_row[rows.index];
    float* out = args_.out + job.first_slot * n_embd_;
    if (is_in_blocks(out_form_)) {
      multiply_bytes(job.down, s_.hidden.blocks(first_row, job.n_slots), out + rows.begin, n_embd_,
                     rows.first_panel(), rows.end_panel());
    } else if (out_form_ == InputForm::floats) {
      float_rows(job.down, s_.hidden.floats(first_row), job.n_slots, rows.begin, rows.end,
                 out + rows.begin, n_embd_);
    } else {
#if defined(__x86_64__)
      const auto store = [&](const Bf16Product::Sums& sums) {
        store_sums(sums, job.n_slots, n_embd_, out, n_embd_);
      };
      const TokenTiles places = tiles_of(job);
      const TileRows x{s_.hidden.tiles(first_row), s_.hidden.rest(first_row), places.n_tiles(),
                       places.per_tile()};
      multiply_tiles(job.down, {}, x, rows.begin / kUnitRows, n_units(rows.end), store);
#endif
    }
  }

  const FfnArgs& args_;
  const FfnJob& first_;
  FfnScratch& s_;
  Workers& workers_;
  uint64_t n_tokens_, n_embd_, n_ff_;
  InputForm in_form_, up_form_;  // of the input, for gate and for up
  InputForm out_form_;           // of the hidden rows
};

uint64_t n_padded_rows(uint64_t n_slots, uint64_t max_jobs) {
  const bool amx = simd_level() == SimdLevel::amx && n_slots > 1;
  if (!amx) return n_slots;
  return n_token_tiles(n_slots + (kTileTokens - 1) * std::min(max_jobs, n_slots)) * kTileTokens;
}

uint64_t gathered_bytes(uint64_t n_embd, uint64_t n_rows) {
  return simd_level() == SimdLevel::amx ? tiles_bytes(n_rows, n_embd)
                                        : n_rows * n_embd * sizeof(float);
}

}  // namespace

uint64_t FfnScratch::n_bytes(uint64_t n_embd, uint64_t n_ff, uint64_t n_slots, uint64_t max_jobs) {
  const uint64_t n_rows = n_padded_rows(n_slots, max_jobs);
  const uint64_t gathered_now = max_jobs > 1 ? gathered_bytes(n_embd, n_rows) : 0;
  return HiddenRows::n_bytes(n_rows, n_ff) + gathered_now + 2 * n_slots * sizeof(ActivationBlock*) +
         (max_jobs + 1) * sizeof(uint32_t);
}

void FfnScratch::reserve(uint64_t n_embd, uint64_t n_ff, uint64_t n_slots, uint64_t max_jobs) {
  const uint64_t n_rows = n_padded_rows(n_slots, max_jobs);
  hidden.reserve(n_rows, n_ff);
  if (max_jobs > 1) gathered = HugeBuffer(gathered_bytes(n_embd, n_rows));
  blocks.resize(2 * n_slots);
  first_row.reserve(max_jobs + 1);
}

uint64_t FfnScratch::held_bytes() const {
  return hidden.held_bytes() + gathered.n_bytes() + blocks.capacity() * sizeof(blocks[0]) +
         first_row.capacity() * sizeof(first_row[0]);
}

void run_ffn_jobs(const FfnArgs& args, FfnScratch& scratch, Workers& workers) {
  if (args.jobs.empty() || args.input.n_tokens() == 0) return;
  Runner(args, scratch, workers).run();
}

}  // namespace hybrid
