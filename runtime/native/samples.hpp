// A sparse sample of a frame: what level is lit, and the largest lit part of it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "geometry.hpp"

namespace medtex {

// How far the channel that stands out most is above the border's colour.
inline int level_of(const Colour& pixel, const Colour& border) {
    return std::max({pixel[0] - border[0], pixel[1] - border[1], pixel[2] - border[2], 0});
}

inline FovDetection refused(Status status, std::int64_t figure) {
    FovDetection detection;
    detection.status = status;
    detection.figure = figure;
    return detection;
}

struct Threshold {
    Colour border{0, 0, 0};
    int least = 1;       // level above the border that counts as lit
    int contrast = 255;  // level of the bright part
};

class Samples {
public:
    static constexpr int kGrid = 256;  // at most so many along the longer side

    int rows = 0, columns = 0;
    std::int64_t step = 1;  // pixels from sample to sample; the first lies step / 2 into the frame

    template <class Pixels>
    void take(const Pixels& pixels) {
        const Source& frame = pixels.frame;
        step = (std::max(frame.height, frame.width) + kGrid - 1) / kGrid;
        const std::int64_t offset = step / 2;
        rows = static_cast<int>((frame.height - offset + step - 1) / step);
        columns = static_cast<int>((frame.width - offset + step - 1) / step);
        std::size_t k = 0;
        for (int i = 0; i < rows; ++i)
            for (int j = 0; j < columns; ++j, ++k) {
                const Colour colour = pixels.at(offset + i * step, offset + j * step);
                for (std::size_t c = 0; c < 3; ++c) planes_[c][k] = static_cast<std::uint8_t>(colour[c]);
            }
    }
    // Decides what is lit, or why nothing can be; `lit` and `body` hold after success.
    std::optional<FovDetection> light(Threshold& threshold);

    bool is_lit(int row, int column) const { return lit_[at(row, column)] != 0; }
    bool is_body(int row, int column) const { return body_[at(row, column)] != 0; }
    int cells() const { return rows * columns; }
    std::int64_t body_area() const { return body_area_; }

private:
    using Histogram = std::array<int, 256>;
    struct Run {
        int row, start, end, parent, area;
    };
    static constexpr std::size_t kCells = kGrid * kGrid;

    std::size_t at(int row, int column) const { return static_cast<std::size_t>(row * columns + column); }
    Colour sample(std::size_t k) const { return {planes_[0][k], planes_[1][k], planes_[2][k]}; }
    Histogram measure(const Colour& border);
    std::optional<FovDetection> refuse(const Histogram& histogram, int median) const;
    Threshold find_threshold();
    void vote(int least);
    int root_of(int run);
    void find_body();

    std::array<std::array<std::uint8_t, kCells>, 3> planes_;  // the three channels of each sample
    std::array<std::uint8_t, kCells> level_, lit_, body_;
    std::array<Run, kCells / 2> runs_;
    std::int64_t body_area_ = 0;
};

}  // namespace medtex
