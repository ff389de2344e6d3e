terraform {
  required_version = ">= 1.9" # conditions of variables refer to other values
}
