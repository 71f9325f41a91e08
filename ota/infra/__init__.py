"""What an AWS account needs for this product, rendered from values and checked before it is made.

``values``      one file of names and numbers -> checked values
``render``      values + templates in ``playbooks/aws/`` -> CloudFormation stacks
``stacks``      a rendered stack -> its policies, with names instead of references
``statements``  one policy document, read strictly
``conditions``  condition operators of IAM, as far as these policies use them
``evaluate``    who may do what, by IAM's and AWS IoT's own rules
``promise``     who must be able to do what, who must not, and what the product calls
``duties``      whether the policies keep the promise
``calls``       whether they allow more than is ever called
``narrow``      no wildcard where AWS takes a narrower resource
``lint``        all of these over all stacks, and cfn-lint

Everything here is pure but for reading templates; nothing here talks to AWS.
"""
