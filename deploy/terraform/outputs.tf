# One output for each of ../aws/template.yaml.

output "live_speke_invoke_url" {
  description = "URL for live channels (MediaPackage v1)"
  value       = aws_cloudformation_stack.spekeasy.outputs["LiveSpekeInvokeUrl"]
}

output "vod_speke_invoke_url" {
  description = "URL for MediaPackage VOD"
  value       = aws_cloudformation_stack.spekeasy.outputs["VodSpekeInvokeUrl"]
}

output "speke_v1_url" {
  description = "URL for SPEKE 1.0 (MediaConvert, MediaPackage v1)"
  value       = aws_cloudformation_stack.spekeasy.outputs["SpekeV1Url"]
}

output "speke_v2_url" {
  description = "URL for SPEKE 2.0 and 2.1 (MediaPackage v2, MediaConvert, MediaPackage v1)"
  value       = aws_cloudformation_stack.spekeasy.outputs["SpekeV2Url"]
}

output "media_convert_role_arn" {
  description = "role of MediaConvert jobs"
  value       = aws_cloudformation_stack.spekeasy.outputs["MediaConvertRoleArn"]
}

output "media_package_role" {
  description = "role of MediaPackage v1 endpoints"
  value       = aws_cloudformation_stack.spekeasy.outputs["MediaPackageRole"]
}

output "media_package_v2_role_arn" {
  description = "role of MediaPackage v2 endpoints"
  value       = aws_cloudformation_stack.spekeasy.outputs["MediaPackageV2RoleArn"]
}

output "media_package_vod_role" {
  description = "role of packaging groups and assets of MediaPackage VOD"
  value       = aws_cloudformation_stack.spekeasy.outputs["MediaPackageVodRole"]
}

output "invoke_policy_arn" {
  description = "policy for roles of your own that may send key requests"
  value       = aws_cloudformation_stack.spekeasy.outputs["InvokePolicyArn"]
}

output "api_id" {
  description = "the API, for the console and for tests"
  value       = aws_cloudformation_stack.spekeasy.outputs["ApiId"]
}

output "function_name" {
  description = "the function"
  value       = aws_cloudformation_stack.spekeasy.outputs["FunctionName"]
}

output "log_group_name" {
  description = "log and audit log"
  value       = aws_cloudformation_stack.spekeasy.outputs["LogGroupName"]
}

output "table_name" {
  description = "where keys are kept"
  value       = aws_cloudformation_stack.spekeasy.outputs["TableName"]
}

output "key_arn" {
  description = "the KMS key that wraps them"
  value       = aws_cloudformation_stack.spekeasy.outputs["KeyArn"]
}

output "alarm_topic_arn" {
  description = "where alarms go"
  value       = aws_cloudformation_stack.spekeasy.outputs["AlarmTopicArn"]
}
