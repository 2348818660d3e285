"""An embedded server with TensorFlow Serving's APIs, a client of both, and the files for TensorFlow Serving itself."""
