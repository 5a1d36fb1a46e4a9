// The pool, and everything that uses it, from several threads at once.
#include "pool.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>

#include "quality_metrics.hpp"
#include "kit.hpp"
#include "overlay.hpp"

namespace {

using kit::Frame;
using kit::Random;
using kit::Rgb;
using medtex::Layout;
using std::int64_t;
using std::size_t;

// Runs body(0) .. body(count - 1) in a thread each and waits.
template <class Body>
void at_once(int count, const Body& body) {
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i) threads.emplace_back([&body, i] { body(i); });
    for (std::thread& thread : threads) thread.join();
}

// What one camera does with a frame: precheck, detect, resize, measure, draw.
struct Camera {
    Frame frame;
    Rgb small, large;
    std::vector<float> saliency, structure;
    medtex::FramePrecheck precheck;
    medtex::FovDetection detection;
    medtex::QualityMetrics metrics;

    Camera(std::uint64_t seed, Layout layout) : Camera(Random(seed), layout) {}

    void turn() {
        precheck = medtex::precheck_frame(frame.source());
        detection = medtex::detect_fov(frame.source());
        medtex::crop_resize(frame.source(), -10, 5, 150, small.target());
        const medtex::Target t = small.target();
        metrics = medtex::quality_metrics({t.data, t.height, t.width, t.row, t.column, t.channel}, structure.data());
        const medtex::Grid grid{saliency.data(), 8, 8, 8, 1};
        medtex::draw_saliency(large.target(), grid, 12, -9, 140, medtex::Scale(scale().data()));
    }
    bool same(const Camera& other) const {
        return small.bytes() == other.small.bytes() && large.bytes() == other.large.bytes() &&
               structure == other.structure && precheck.digest == other.precheck.digest &&
               detection.status == other.detection.status && metrics.fine_squares == other.metrics.fine_squares;
    }

private:
    Camera(Random random, Layout layout)
        : frame(random, layout, 120, 160), small(random, 48, 48), large(random, 120, 160), structure(144) {
        for (int i = 0; i < 64; ++i) saliency.push_back(random.unit());
    }
    static const std::vector<std::uint8_t>& scale() {
        static const std::vector<std::uint8_t> rows = [] {
            std::vector<std::uint8_t> made;
            for (int k = 0; k < medtex::Scale::kLevels; ++k)
                for (const int value : {128 - k / 2, k / 2, 0, 0}) made.push_back(static_cast<std::uint8_t>(value));
            return made;
        }();
        return rows;
    }
};

}  // namespace

TEST(every_part_is_done_once) {
    Random random(31);
    for (int threads = 1; threads <= 6; ++threads) {
        medtex::Pool pool(threads);
        for (int round = 0; round < 60; ++round) {
            const int64_t count = random.between(0, 300), grain = random.between(1, 40);
            // Plain bytes: if two threads were given one part, a sanitizer of threads would see it.
            std::vector<unsigned char> done(static_cast<size_t>(count), 0);
            pool.split(count, grain, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) ++done[static_cast<size_t>(i)];
            });
            CHECK(std::all_of(done.begin(), done.end(), [](unsigned char n) { return n == 1; }), "count", count,
                  "grain", grain, "threads", threads);
        }
    }
}

TEST(a_pool_may_end_at_once_and_while_its_helpers_wake) {
    for (int round = 0; round < 60; ++round) {
        medtex::Pool pool(1 + round % 5);
        if (round % 2) continue;
        std::atomic<int64_t> sum{0};
        pool.split(64, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
        CHECK(sum == 64, "sum", sum.load());
    }
}

TEST(one_pool_serves_several_callers_at_once) {
    medtex::Pool pool(3);
    std::atomic<int> wrong{0};
    at_once(4, [&](int caller) {
        for (int round = 0; round < 80; ++round) {
            std::vector<int> done(100 + static_cast<size_t>(caller), 0);
            pool.split(static_cast<int64_t>(done.size()), 3, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) ++done[static_cast<size_t>(i)];
            });
            wrong += !std::all_of(done.begin(), done.end(), [](int n) { return n == 1; });
        }
    });
    CHECK(wrong == 0, "callers that were served wrongly:", wrong.load());
}

TEST(cameras_in_several_threads_get_each_its_own_picture) {
    for (const int threads : {1, 2, 4, medtex::kMaxThreads}) {
        CHECK(medtex::set_threads(threads) == threads, "");
        std::atomic<int> wrong{0};
        at_once(5, [&](int number) {
            const Layout layout = kit::kLayouts[static_cast<size_t>(number)];
            Camera camera(static_cast<std::uint64_t>(number), layout);
            const Camera before = camera;
            camera.turn();
            for (int round = 0; round < 6; ++round) {
                Camera again = before;
                again.turn();
                wrong += !again.same(camera);
            }
        });
        CHECK(wrong == 0, "threads", threads, "wrong", wrong.load());
    }
    // What one thread alone draws is what all of them drew.
    for (size_t i = 0; i < kit::kLayouts.size(); ++i) {
        Camera alone(i, kit::kLayouts[i]), together = alone;
        medtex::set_threads(1);
        alone.turn();
        medtex::set_threads(4);
        together.turn();
        CHECK(alone.same(together), "layout", i);
    }
    medtex::set_threads(0);
}

TEST(threads_that_come_and_go_take_their_buffers_with_them) {
    for (int round = 0; round < 12; ++round)
        at_once(2, [&](int number) { Camera(static_cast<std::uint64_t>(number), Layout::nv12).turn(); });
}
