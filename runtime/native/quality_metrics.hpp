// The quality metrics of a frame before it is graded: a digest of its content, its light, its detail.
#pragma once

#include "geometry.hpp"

namespace medtex {

// A sparse sample of a frame as it came: a number that changes when any sampled byte does, and how many of the sampled
// levels (luma, where there is one) are lit.
struct FramePrecheck {
    std::uint64_t digest = 0;
    std::int64_t lit = 0, sampled = 0;
};

FramePrecheck precheck_frame(const Source& frame);

// Sums over the disc of a small picture. `top` is a pixel's brightest channel; `inside` are the pixels of the disc away
// from whatever is not lit; `fine` is the detail between binomial blurs of variance 1 and 2, `coarse`, of every second
// pixel and row, that between 4 and 16. Details are in 16ths of a level.
struct QualityMetrics {
    std::int64_t disc = 0, disc_top = 0;
    std::int64_t inside = 0, top = 0, grey = 0, clipped = 0;
    std::int64_t fine = 0, fine_squares = 0;
    std::int64_t coarse_inside = 0, coarse = 0, coarse_squares = 0;
};

inline constexpr std::int64_t kMaxMetricsSide = 256;  // a row's sum of squares stays within 32 bits

// `picture` is n x n RGB with n a multiple of 4, 16 to kMaxMetricsSide. `structure`, n / 4 squared and contiguous, gets
// the coarse detail, four cells added up, 0 where nothing is inside. Allocates once per thread.
QualityMetrics quality_metrics(const Picture<const std::uint8_t>& picture, float* structure);

}  // namespace medtex
