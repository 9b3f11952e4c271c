# One variable for each parameter of ../aws/template.yaml.

variable "name" {
  description = "name of the stack"
  type        = string
  default     = "drm"
}

variable "code_bucket" {
  description = "S3 bucket, in this region, that takes the package of the function"
  type        = string
}

variable "package" {
  description = "the package, as make lambda builds it, for the processor of var.architecture"
  type        = string
}

variable "architecture" {
  description = "the processor that the package is for"
  type        = string
  default     = "arm64"
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "One of arm64, x86_64."
  }
}

variable "tenant_id" {
  description = "name of the tenant whose keys these are; it cannot be changed later without losing them"
  type        = string
  default     = "main"
}

variable "caller_arns" {
  description = "ARNs of further IAM roles and users that may ask for keys, beside the roles of this stack"
  type        = list(string)
  default     = []
}

variable "gateway_type" {
  description = "Regional for AWS media services; Private is reachable from your VPC only, which they are not in"
  type        = string
  default     = "Regional"
  validation {
    condition     = contains(["Private", "Regional", "Edge"], var.gateway_type)
    error_message = "One of Private, Regional, Edge."
  }
}

variable "vpc_endpoint_ids" {
  description = "with GatewayType Private, the IDs of your VPC endpoints for execute-api"
  type        = list(string)
  default     = []
}

variable "speke_url" {
  description = "URL of the other key provider; empty for a key server"
  type        = string
  default     = ""
}

variable "speke_url_v2" {
  description = "its URL for SPEKE 2.0 and 2.1, if that is another one"
  type        = string
  default     = ""
}

variable "upstream_vendor" {
  description = "who the other key provider is; generic for any that keeps to SPEKE"
  type        = string
  default     = "insys"
  validation {
    condition     = contains(["insys", "axinom", "pallycon", "keyos", "vudrm", "ezdrm", "irdeto", "generic"], var.upstream_vendor)
    error_message = "One of insys, axinom, pallycon, keyos, vudrm, ezdrm, irdeto, generic."
  }
}

variable "authentication_method" {
  description = "how it lets us in; NONE where the URL or a certificate does"
  type        = string
  default     = "OAUTH"
  validation {
    condition     = contains(["OAUTH", "X-API-KEY", "BASIC", "NONE"], var.authentication_method)
    error_message = "One of OAUTH, X-API-KEY, BASIC, NONE."
  }
}

variable "client_id" {
  description = "OAuth client, or user name for BASIC"
  type        = string
  default     = ""
}

variable "client_secret" {
  description = "OAuth client secret, or password for BASIC; kept in Secrets Manager"
  type        = string
  default     = "unset"
  sensitive   = true
}

variable "token_url" {
  description = "for OAUTH, where tokens are issued"
  type        = string
  default     = "https://auth.drm.cloud/oauth/token"
}

variable "token_scope" {
  description = "for OAUTH, the scope to ask for, if there is one"
  type        = string
  default     = ""
}

variable "api_key" {
  description = "for X-API-KEY, the key; kept in Secrets Manager"
  type        = string
  default     = "unset"
  sensitive   = true
}

variable "alarm_email" {
  description = "who is told of alarms; the address has to be confirmed once"
  type        = string
  default     = ""
}

variable "enable_gateway_logging" {
  description = "access log and errors of API Gateway, never bodies; sets this region's account-wide logging role of API Gateway"
  type        = string
  default     = "false"
  validation {
    condition     = contains(["true", "false"], var.enable_gateway_logging)
    error_message = "One of true, false."
  }
}

variable "lambda_logging_level" {
  description = "DISABLED keeps errors only; the audit log is always on, content keys are in no log"
  type        = string
  default     = "INFO"
  validation {
    condition     = contains(["DISABLED", "INFO", "DEBUG"], var.lambda_logging_level)
    error_message = "One of DISABLED, INFO, DEBUG."
  }
}

variable "log_retention_days" {
  description = "how long logs, with the audit log in them, are kept"
  type        = number
  default     = 400
}

variable "confused_deputy_conditions" {
  description = "media services may use the roles on behalf of this account only"
  type        = string
  default     = "true"
  validation {
    condition     = contains(["true", "false"], var.confused_deputy_conditions)
    error_message = "One of true, false."
  }
}

variable "media_convert_input_bucket" {
  description = "bucket that MediaConvert's role may read, if it is to be the role of jobs"
  type        = string
  default     = ""
}

variable "media_convert_output_bucket" {
  description = "bucket that MediaConvert's role may write"
  type        = string
  default     = ""
}

variable "media_package_vod_bucket" {
  description = "bucket whose assets MediaPackage VOD's role may read"
  type        = string
  default     = ""
}
