// What a training step does to each number of a large matrix, in one pass over it.
//
// The same arithmetic in TensorFlow's own operations makes a dozen passes over temporaries; here
// each number is read once and written once: of a table, its moments and its gradient in Adam, of
// the logits in the loss and its gradient. Both operations are in one file, as TensorFlow's headers
// take most of the time it takes to compile one.

#include "_clones.h"

#define EIGEN_USE_THREADS

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/kernels/training_op_helpers.h"
#include "tensorflow/core/util/work_sharder.h"

namespace tfxc {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using Device = Eigen::ThreadPoolDevice;

REGISTER_OP("TfxcAdam")
    .Input("variable: resource")
    .Input("first_moment: resource")
    .Input("second_moment: resource")
    .Input("rows: int32")
    .Input("gradient: float")
    .Input("rate: float")
    .Input("epsilon: float")
    .Input("kept: float")
    .Attr("share_1: float")
    .Attr("share_2: float")
    .Attr("dense: bool")
    .SetShapeFn(tensorflow::shape_inference::NoOutputs);

struct AdamScalars {
  float rate, epsilon;
  float kept;              // share of a weight that its decay leaves
  float share_1, share_2;  // 1 - beta_1 and 1 - beta_2, subtracted in double precision
};

// Updates `count` blocks of `width` numbers, of which `row` numbers the places; without it they
// follow one another.
TFXC_CLONES void UpdateRows(const int32_t* row, int64_t count, int64_t width, float* variable,
                            float* first, float* second, const float* gradient, AdamScalars by) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t offset = (row ? static_cast<int64_t>(row[i]) : i) * width;
    float* __restrict__ w = variable + offset;
    float* __restrict__ m = first + offset;
    float* __restrict__ v = second + offset;
    const float* __restrict__ g = gradient + i * width;
    for (int64_t j = 0; j < width; ++j) {
      m[j] += by.share_1 * (g[j] - m[j]);
      v[j] += by.share_2 * (g[j] * g[j] - v[j]);
      w[j] = by.kept * w[j] - by.rate * m[j] / (std::sqrt(v[j]) + by.epsilon);
    }
  }
}

class Adam : public OpKernel {
 public:
  explicit Adam(OpKernelConstruction* construction) : OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("share_1", &share_1_));
    OP_REQUIRES_OK(construction, construction->GetAttr("share_2", &share_2_));
    OP_REQUIRES_OK(construction, construction->GetAttr("dense", &dense_));
  }

  void Compute(OpKernelContext* context) override {
    const auto locks = tensorflow::MaybeLockVariableInputMutexesInOrder<Device, float>(
        context, /*do_lock=*/true, /*sparse=*/!dense_, {0, 1, 2});
    Tensor tables[3];
    for (int i = 0; i < 3; ++i) {
      // Makes the buffer our own where another variable still shares it.
      OP_REQUIRES_OK(context,
                     (tensorflow::GetInputTensorFromVariable<Device, float>(
                         context, i, /*lock_held=*/true, /*sparse=*/!dense_, &tables[i])));
    }
    const Tensor& rows = context->input(3);
    const Tensor& gradient = context->input(4);
    for (int i = 1; i < 3; ++i) {
      OP_REQUIRES(context, tables[i].shape() == tables[0].shape(),
                  tensorflow::errors::InvalidArgument("moments of the table's shape expected"));
    }
    const AdamScalars scalars = {context->input(5).scalar<float>()(),
                                 context->input(6).scalar<float>()(),
                                 context->input(7).scalar<float>()(), share_1_, share_2_};
    if (dense_) {
      OP_REQUIRES(context, gradient.shape() == tables[0].shape(),
                  tensorflow::errors::InvalidArgument("a gradient of the variable's shape expected"));
      Update(context, nullptr, gradient.NumElements(), 1, tables, gradient, scalars);
      return;
    }
    OP_REQUIRES(context, tables[0].dims() >= 1 && tables[0].dim_size(0) > 0,
                tensorflow::errors::InvalidArgument("a table with rows is expected"));
    const int64_t num_rows = tables[0].dim_size(0);
    const int64_t width = tables[0].NumElements() / num_rows;
    const int64_t count = rows.NumElements();
    OP_REQUIRES(context, gradient.NumElements() == count * width,
                tensorflow::errors::InvalidArgument("one gradient row per row number expected"));
    const int32_t* row = rows.flat<int32_t>().data();
    for (int64_t i = 0; i < count; ++i) {
      OP_REQUIRES(context, row[i] >= 0 && row[i] < num_rows,
                  tensorflow::errors::InvalidArgument("row ", row[i], " is outside of 0 .. ",
                                                      num_rows - 1));
    }
    Update(context, row, count, width, tables, gradient, scalars);
  }

 private:
  void Update(OpKernelContext* context, const int32_t* row, int64_t count, int64_t width,
              Tensor* tables, const Tensor& gradient, AdamScalars scalars) {
    float* variable = tables[0].flat<float>().data();
    float* first = tables[1].flat<float>().data();
    float* second = tables[2].flat<float>().data();
    const float* source = gradient.flat<float>().data();
    auto block = [=](int64_t begin, int64_t end) {
      if (row) {
        UpdateRows(row + begin, end - begin, width, variable, first, second,
                   source + begin * width, scalars);
      } else {
        UpdateRows(nullptr, 1, end - begin, variable + begin, first + begin, second + begin,
                   source + begin, scalars);
      }
    };
    auto* workers = context->device()->tensorflow_cpu_worker_threads();
    tensorflow::Shard(workers->num_threads, workers->workers, count, width * 4, block);
  }

  float share_1_, share_2_;
  bool dense_;
};

REGISTER_KERNEL_BUILDER(Name("TfxcAdam").Device(tensorflow::DEVICE_CPU), Adam);

REGISTER_OP("TfxcSigmoidCrossEntropy")
    .Input("logits: float")
    .Input("positives: int64")
    .Output("loss: float")
    .Output("gradient: float")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle logits;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &logits));
      c->set_output(0, c->Vector(c->Dim(logits, 0)));
      c->set_output(1, logits);
      return absl::OkStatus();
    });

// Returns exp(x) of x <= 0, to the last two bits; 0 where that would be no normal number. What is
// NaN stays NaN.
inline float Exp(float x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to an integer
  const float shifted = x * 1.44269504f + magic;
  uint32_t power;
  std::memcpy(&power, &shifted, sizeof power);
  const float whole = shifted - magic;
  // ln 2 in two parts, the first of which is exact in products with integers.
  const float r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  power = (power + 127) << 23;  // the bits of the magic number leave at the top
  float scale;
  std::memcpy(&scale, &power, sizeof scale);
  return x < -87.0f ? 0.0f : y * scale;
}

// Returns log(1 + e) of 0 <= e <= 1, relative to its size exact to the last bits: the series of
// 2 artanh(e / (2 + e)).
inline float Log1p(float e) {
  const float s = e / (2.0f + e);
  const float t = s * s;
  float y = 1.0f / 15;
  y = y * t + 1.0f / 13;
  y = y * t + 1.0f / 11;
  y = y * t + 1.0f / 9;
  y = y * t + 1.0f / 7;
  y = y * t + 1.0f / 5;
  y = y * t + 1.0f / 3;
  y = y * t + 1.0f;
  return 2.0f * s * y;
}

// Writes the sigmoid of each logit, over it or elsewhere, and returns the sum of log(1 + exp(z)).
TFXC_CLONES double SigmoidOfRow(int64_t columns, const float* logits, float* sigmoid) {
  double total = 0;
  for (int64_t begin = 0; begin < columns; begin += 256) {
    const int64_t end = std::min<int64_t>(columns, begin + 256);
    float part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t j = begin; j < end; ++j) {
      const float z = logits[j];
      const float e = Exp(-std::fabs(z));
      part += (z > 0 ? z : 0.0f) + Log1p(e);
      sigmoid[j] = (z > 0 ? 1.0f : e) / (1.0f + e);
    }
    total += part;
  }
  return total;
}

class SigmoidCrossEntropy : public OpKernel {
 public:
  explicit SigmoidCrossEntropy(OpKernelConstruction* construction) : OpKernel(construction) {}

  void Compute(OpKernelContext* context) override {
    const Tensor& logits = context->input(0);
    const Tensor& positives = context->input(1);
    const int64_t rows = logits.dim_size(0), columns = logits.dim_size(1);
    OP_REQUIRES(context, positives.dims() == 2 && positives.dim_size(0) == rows,
                tensorflow::errors::InvalidArgument("one row of positives per row expected"));
    const int64_t width = positives.dim_size(1);
    const int64_t* column = positives.flat<int64_t>().data();
    for (int64_t i = 0; i < rows * width; ++i) {
      OP_REQUIRES(context, column[i] < columns,
                  tensorflow::errors::InvalidArgument("column ", column[i], " is outside of 0 .. ",
                                                      columns - 1));
    }
    Tensor* loss;
    Tensor* gradient;
    OP_REQUIRES_OK(context, context->allocate_output(0, {rows}, &loss));
    // Over the logits, where nothing else reads them.
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0}, 1, logits.shape(),
                                                                      &gradient));
    const float* from = logits.flat<float>().data();
    float* into = gradient->flat<float>().data();
    float* losses = loss->flat<float>().data();
    auto block = [=](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t* of_row = column + row * width;
        double of_positives = 0;
        for (int64_t i = 0; i < width; ++i) {
          if (of_row[i] >= 0) of_positives += from[row * columns + of_row[i]];
        }
        const double total = SigmoidOfRow(columns, from + row * columns, into + row * columns);
        losses[row] = static_cast<float>(total - of_positives);
        for (int64_t i = 0; i < width; ++i) {
          if (of_row[i] >= 0) into[row * columns + of_row[i]] -= 1.0f;
        }
      }
    };
    auto* workers = context->device()->tensorflow_cpu_worker_threads();
    tensorflow::Shard(workers->num_threads, workers->workers, rows, columns * 10, block);
  }
};

REGISTER_KERNEL_BUILDER(Name("TfxcSigmoidCrossEntropy").Device(tensorflow::DEVICE_CPU),
                        SigmoidCrossEntropy);

}  // namespace tfxc
