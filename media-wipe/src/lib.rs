//! Fill a block device with a verifiable random stream, safely
