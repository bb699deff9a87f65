"""Where blobs and cards are kept, and the catalog that finds cards by need."""
