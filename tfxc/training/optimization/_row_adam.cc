// One pass of Adam over the rows of a table that a batch touched.
//
// The same arithmetic in TensorFlow's own operations makes a dozen passes over temporaries; here
// each row of the table, of both moments and of the gradient is read once and written once.

#include "_clones.h"

#define EIGEN_USE_THREADS

#include <cmath>

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

REGISTER_OP("TfxcRowAdam")
    .Input("variable: resource")
    .Input("first_moment: resource")
    .Input("second_moment: resource")
    .Input("rows: int32")
    .Input("gradient: float")
    .Input("rate: float")
    .Input("epsilon: float")
    .Attr("share_1: float")
    .Attr("share_2: float")
    .SetShapeFn(tensorflow::shape_inference::NoOutputs);

// Updates rows `begin` to `end` of those that `row` numbers.
TFXC_CLONES void UpdateRows(int64_t begin, int64_t end, const int32_t* row, int64_t width,
                            float* variable, float* first, float* second, const float* gradient,
                            float rate, float epsilon, float share_1, float share_2) {
  for (int64_t i = begin; i < end; ++i) {
    const int64_t offset = static_cast<int64_t>(row[i]) * width;
    float* __restrict__ w = variable + offset;
    float* __restrict__ m = first + offset;
    float* __restrict__ v = second + offset;
    const float* __restrict__ g = gradient + i * width;
    for (int64_t j = 0; j < width; ++j) {
      m[j] += share_1 * (g[j] - m[j]);
      v[j] += share_2 * (g[j] * g[j] - v[j]);
      w[j] -= rate * m[j] / (std::sqrt(v[j]) + epsilon);
    }
  }
}

class RowAdam : public OpKernel {
 public:
  explicit RowAdam(OpKernelConstruction* construction) : OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("share_1", &share_1_));
    OP_REQUIRES_OK(construction, construction->GetAttr("share_2", &share_2_));
  }

  void Compute(OpKernelContext* context) override {
    const auto locks = tensorflow::MaybeLockVariableInputMutexesInOrder<Device, float>(
        context, /*do_lock=*/true, /*sparse=*/true, {0, 1, 2});
    Tensor tables[3];
    for (int i = 0; i < 3; ++i) {
      // Makes the buffer our own where another variable still shares it.
      OP_REQUIRES_OK(context, (tensorflow::GetInputTensorFromVariable<Device, float>(
                                  context, i, /*lock_held=*/true, /*sparse=*/true, &tables[i])));
    }
    const Tensor& rows = context->input(3);
    const Tensor& gradient = context->input(4);
    OP_REQUIRES(context, tables[0].dims() >= 1 && tables[0].dim_size(0) > 0,
                tensorflow::errors::InvalidArgument("a table with rows is expected"));
    const int64_t num_rows = tables[0].dim_size(0);
    const int64_t width = tables[0].NumElements() / num_rows;
    for (int i = 1; i < 3; ++i) {
      OP_REQUIRES(context, tables[i].shape() == tables[0].shape(),
                  tensorflow::errors::InvalidArgument("moments of the table's shape expected"));
    }
    const int64_t count = rows.NumElements();
    OP_REQUIRES(context, gradient.NumElements() == count * width,
                tensorflow::errors::InvalidArgument("one gradient row per row number expected"));
    const int32_t* row = rows.flat<int32_t>().data();
    for (int64_t i = 0; i < count; ++i) {
      OP_REQUIRES(context, row[i] >= 0 && row[i] < num_rows,
                  tensorflow::errors::InvalidArgument("row ", row[i], " is outside of 0 .. ",
                                                      num_rows - 1));
    }
    Update(context, row, count, width, tables, gradient);
  }

 private:
  void Update(OpKernelContext* context, const int32_t* row, int64_t count, int64_t width,
              Tensor* tables, const Tensor& gradient) {
    float* variable = tables[0].flat<float>().data();
    float* first = tables[1].flat<float>().data();
    float* second = tables[2].flat<float>().data();
    const float* source = gradient.flat<float>().data();
    const float rate = context->input(5).scalar<float>()();
    const float epsilon = context->input(6).scalar<float>()();
    const float share_1 = share_1_, share_2 = share_2_;
    auto block = [=](int64_t begin, int64_t end) {
      UpdateRows(begin, end, row, width, variable, first, second, source, rate, epsilon, share_1,
                 share_2);
    };
    auto* workers = context->device()->tensorflow_cpu_worker_threads();
    tensorflow::Shard(workers->num_threads, workers->workers, count, width * 4, block);
  }

  float share_1_, share_2_;  // 1 - beta_1 and 1 - beta_2, subtracted in double precision
};

REGISTER_KERNEL_BUILDER(Name("TfxcRowAdam").Device(tensorflow::DEVICE_CPU), RowAdam);

}  // namespace tfxc
