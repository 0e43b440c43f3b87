"""What a site decides: settings, the model catalogue, the codes a site may remap. Imports none of ours."""
