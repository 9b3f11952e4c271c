# Deploys ../aws/template.yaml, so that there is one description of the stack.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

# The name has the digest of the package: CloudFormation looks at the name
# alone to see whether there is a new one.
resource "aws_s3_object" "package" {
  bucket = var.code_bucket
  key    = "spekeasy-lambda-${var.architecture}-${substr(filesha256(var.package), 0, 16)}.zip"
  source = var.package
}

resource "aws_cloudformation_stack" "spekeasy" {
  name          = var.name
  template_body = file("${path.module}/../aws/template.yaml")
  capabilities  = ["CAPABILITY_IAM"]

  parameters = {
    CodeBucket               = aws_s3_object.package.bucket
    CodeKey                  = aws_s3_object.package.key
    Architecture             = var.architecture
    TenantId                 = var.tenant_id
    CallerArns               = join(",", var.caller_arns)
    GatewayType              = var.gateway_type
    VpcEndpointIds           = join(",", var.vpc_endpoint_ids)
    SpekeUrl                 = var.speke_url
    SpekeUrlV2               = var.speke_url_v2
    UpstreamVendor           = var.upstream_vendor
    AuthenticationMethod     = var.authentication_method
    ClientId                 = var.client_id
    ClientSecret             = var.client_secret
    TokenUrl                 = var.token_url
    TokenScope               = var.token_scope
    ApiKey                   = var.api_key
    AlarmEmail               = var.alarm_email
    EnableGatewayLogging     = var.enable_gateway_logging
    LambdaLoggingLevel       = var.lambda_logging_level
    LogRetentionDays         = tostring(var.log_retention_days)
    ConfusedDeputyConditions = var.confused_deputy_conditions
    MediaConvertInputBucket  = var.media_convert_input_bucket
    MediaConvertOutputBucket = var.media_convert_output_bucket
    MediaPackageVodBucket    = var.media_package_vod_bucket
  }
}
